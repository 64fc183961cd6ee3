// Cases for the WebSocket of the web platform. They use only its standard API, so the same functions run in
// Node and in a page of a browser.

import { payloads } from "./payloads.mjs";

const MESSAGE_LIMIT = 16 * 1024 * 1024;

/** Name of the case -> function that takes the server's `ws://` address and throws if the case fails. */
export const cases = {};

/** The cases that need a server with context takeover. */
export const takeoverCases = {};

for (const group of [cases, takeoverCases]) {
  group["compressed payloads are echoed unchanged"] = async (server) => {
    const socket = await open(server + "/echo");
    check(socket.extensions.startsWith("permessage-deflate"), `extensions: ${socket.extensions}`);
    for (const round of [1, 2]) {
      for (const [kind, payload] of payloads()) {
        socket.send(payload);
        const { data } = await next(socket, "message");
        if (typeof payload === "string") check(data === payload, `${kind}, round ${round}`);
        else equalBytes(new Uint8Array(data), payload);
      }
    }
    await close(socket);
  };
}

for (const size of [0, 1, 125, 126, 65_535, 65_536, 1024 * 1024, MESSAGE_LIMIT]) {
  cases[`echoes ${size} characters of text`] = async (server) => {
    const socket = await open(server + "/echo");
    const text = "frameloop ".repeat(size / 10 + 1).slice(0, size);
    socket.send(text);
    check((await next(socket, "message")).data === text, "the echo differs");
    await close(socket);
  };

  cases[`echoes ${size} bytes as an ArrayBuffer`] = async (server) => {
    const socket = await open(server + "/echo");
    const bytes = Uint8Array.from({ length: size }, (_, index) => (index * 31) % 251);
    socket.send(bytes);
    const { data } = await next(socket, "message");
    check(data instanceof ArrayBuffer, "no ArrayBuffer");
    equalBytes(new Uint8Array(data), bytes);
    await close(socket);
  };
}

for (const text of ["é".repeat(100), "中".repeat(21_845), "😀".repeat(16_384), "\0\r\n\x1b\u2028"]) {
  cases[`echoes ${JSON.stringify(text.slice(0, 12))}, ${text.length} code units`] = async (server) => {
    const socket = await open(server + "/echo");
    socket.send(text);
    check((await next(socket, "message")).data === text, "the echo differs");
    await close(socket);
  };
}

cases["echoes a Blob as a Blob"] = async (server) => {
  const socket = await open(server + "/echo");
  socket.binaryType = "blob";
  socket.send(new Blob([new Uint8Array([1, 2, 255])]));
  const { data } = await next(socket, "message");
  check(data instanceof Blob, "no Blob");
  equalBytes(new Uint8Array(await data.arrayBuffer()), new Uint8Array([1, 2, 255]));
  await close(socket);
};

cases["J4: echoes three bytes with the type of binaryType"] = async (server) => {
  const socket = await open(server + "/echo");
  for (const [binaryType, type] of [
    ["arraybuffer", ArrayBuffer],
    ["blob", Blob],
  ]) {
    socket.binaryType = binaryType;
    socket.send(new Uint8Array([1, 2, 3]).buffer);
    check((await next(socket, "message")).data instanceof type, `not the type for ${binaryType}`);
  }
  await close(socket);
};

cases["a hundred messages are echoed in order"] = async (server) => {
  const socket = await open(server + "/echo");
  const received = [];
  const all = new Promise((resolve) => {
    socket.onmessage = ({ data }) => received.push(data) === 100 && resolve();
  });
  for (let index = 0; index < 100; index++) socket.send(`${index} ` + "x".repeat(index * 10));
  await all;
  received.forEach((message, index) => equal(message, `${index} ` + "x".repeat(index * 10)));
  await close(socket);
};

for (const [code, reason] of [
  [1000, ""],
  [3000, "x"],
  [4999, "再见 👋"],
]) {
  cases[`J2: close(${code}, "${reason}") is echoed`] = async (server) => {
    const socket = await open(server + "/ws");
    socket.close(code, reason);
    const event = await next(socket, "close");
    equal([event.code, event.reason, event.wasClean], [code, reason, true]);
  };
}

cases["close() without a code ends with 1005, cleanly"] = async (server) => {
  const socket = await open(server + "/ws");
  socket.close();
  const event = await next(socket, "close");
  equal([event.code, event.reason, event.wasClean], [1005, "", true]);
};

cases["J3: an unknown path gives error, then close 1006"] = async (server) => {
  const socket = new WebSocket(server + "/no/such/path");
  const events = [];
  socket.onopen = socket.onerror = ({ type }) => events.push(type);
  const event = await next(socket, "close");
  equal([...events, event.code, event.wasClean], ["error", 1006, false]);
};

cases["a message over the limit ends with 1009"] = async (server) => {
  const socket = await open(server + "/echo");
  socket.send(new Uint8Array(MESSAGE_LIMIT + 1));
  equal((await next(socket, "close")).code, 1009);
};

for (const [offered, chosen] of [
  [[], ""],
  ["chat", "chat"],
  [["superchat", "chat"], "superchat"],
  [["chat", "superchat"], "chat"],
  [["v12.stomp", "v11.stomp", "v10.stomp"], "v12.stomp"],
]) {
  cases[`chooses "${chosen}" of the subprotocols [${offered}]`] = async (server) => {
    const socket = await open(server + "/echo", offered);
    equal(socket.protocol, chosen);
    await close(socket);
  };
}

cases["the tutorial echo ignores binary"] = async (server) => {
  const socket = await open(server + "/ws");
  socket.send(new Uint8Array([0, 1]));
  socket.send("😀中");
  equal((await next(socket, "message")).data, "Echo: 😀中");
  await close(socket);
};

cases["broadcast reaches both members"] = async (server) => {
  const members = await Promise.all([open(server + "/broadcast/web"), open(server + "/broadcast/web")]);
  const received = members.map((member) => next(member, "message"));
  members[0].send("to all");
  for (const event of await Promise.all(received)) equal(event.data, "to all");
  await Promise.all(members.map(close));
};

async function open(url, subprotocols = []) {
  const socket = new WebSocket(url, subprotocols);
  socket.binaryType = "arraybuffer";
  await next(socket, "open");
  return socket;
}

async function close(socket) {
  const closed = next(socket, "close");
  socket.close(1000);
  check((await closed).wasClean, "the close was not clean");
}

/** The socket's next event of this type. Fails if the socket closes instead. */
function next(socket, type) {
  return new Promise((resolve, reject) => {
    socket.addEventListener(type, resolve, { once: true });
    if (type !== "close") {
      socket.addEventListener("close", ({ code, reason }) => reject(new Error(`closed: ${code} "${reason}"`)), { once: true });
    }
  });
}

function check(holds, message) {
  if (!holds) throw new Error(message);
}

function equal(actual, expected) {
  const [left, right] = [JSON.stringify(actual), JSON.stringify(expected)];
  check(left === right, `got ${left}, expected ${right}`);
}

function equalBytes(actual, expected) {
  equal(actual.length, expected.length);
  check(actual.every((byte, index) => byte === expected[index]), "the bytes differ");
}
