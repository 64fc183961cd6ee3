// The `ws` client of npm.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import test from "node:test";

import { require, takeoverUrl, websocketUrl } from "./environment.mjs";
import { payloads } from "./payloads.mjs";

const WebSocket = require("ws");
const MESSAGE_LIMIT = 16 * 1024 * 1024;
const SIZES = [0, 1, 125, 126, 65_535, 65_536, 1024 * 1024, MESSAGE_LIMIT];
const timeout = 60_000;

/** An open connection that queues its messages, so that none is missed between two waits. */
class Client {
  static async connect(path, subprotocols = []) {
    const client = new Client(new WebSocket(websocketUrl + path, subprotocols));
    await once(client.socket, "open");
    return client;
  }

  constructor(socket) {
    this.socket = socket;
    this.messages = [];
    this.waiting = [];
    this.closed = new Promise((resolve) => {
      socket.on("close", (code, reason) => resolve([code, reason.toString()]));
    });
    socket.on("error", () => {}); // "close" follows
    socket.on("message", (data, isBinary) => {
      const message = isBinary ? data : data.toString();
      const waiter = this.waiting.shift();
      if (waiter) waiter(message);
      else this.messages.push(message);
    });
  }

  send(message, options) {
    this.socket.send(message, options);
  }

  async receive() {
    if (this.messages.length > 0) return this.messages.shift();
    const message = new Promise((resolve) => this.waiting.push(resolve));
    const closed = this.closed.then(([code, reason]) => assert.fail(`closed with ${code} "${reason}"`));
    return Promise.race([message, closed]);
  }

  async receiveMany(count) {
    const messages = [];
    while (messages.length < count) messages.push(await this.receive());
    return messages;
  }
}

/** A test with an open connection for each path. They are closed at its end. */
function connected(name, paths, body) {
  test(name, { timeout }, async () => {
    const clients = await Promise.all([paths].flat().map((path) => Client.connect(path)));
    try {
      await body(...clients);
    } finally {
      for (const client of clients) client.socket.close();
      await Promise.all(clients.map((client) => client.closed));
    }
  });
}

/** The HTTP status of a refused opening handshake. */
async function refusal(path) {
  const socket = new WebSocket(websocketUrl + path);
  const [request, response] = await once(socket, "unexpected-response");
  request.destroy();
  return response.statusCode;
}

for (const size of SIZES) {
  connected(`echoes ${size} bytes of binary`, "/echo", async (client) => {
    const message = randomBytes(size);
    client.send(message);
    assert.ok(message.equals(await client.receive()));
  });

  connected(`echoes ${size} characters of text`, "/echo", async (client) => {
    const message = "frameloop ".repeat(size / 10 + 1).slice(0, size);
    client.send(message);
    assert.ok((await client.receive()) === message);
  });
}

for (const text of ["é".repeat(100), "中".repeat(21_845), "😀".repeat(16_384), "👩‍👩‍👧‍👦 e\u0301 שלום", "\0\r\n\x1b"]) {
  connected(`echoes ${JSON.stringify(text.slice(0, 12))}, ${text.length} code units`, "/echo", async (client) => {
    client.send(text);
    assert.ok((await client.receive()) === text);
  });
}

for (const [name, url, offer] of [
  ["without context takeover", websocketUrl, {}],
  ["with context takeover", takeoverUrl, {}],
  ["with context takeover of the server only", takeoverUrl, { clientNoContextTakeover: true }],
  ["with context takeover in small windows", takeoverUrl, { serverMaxWindowBits: 9, clientMaxWindowBits: 9 }],
]) {
  test(`compresses ${name}`, { timeout, skip: !url && "the second server is not set" }, async () => {
    const client = new Client(new WebSocket(`${url}/echo`, { perMessageDeflate: { threshold: 0, ...offer } }));
    await once(client.socket, "open");
    try {
      assert.match(client.socket.extensions, /^permessage-deflate/);
      for (const round of [1, 2]) {
        for (const [kind, payload] of payloads()) {
          client.send(payload);
          const echo = await client.receive();
          const equals = typeof payload === "string" ? echo === payload : payload.equals(echo);
          assert.ok(equals, `${kind}, round ${round}`);
        }
      }
    } finally {
      client.socket.close();
      await client.closed;
    }
  });
}

connected("echoes on the root path", "/", async (client) => {
  client.send("text");
  client.send(Buffer.from("binary"));
  assert.deepEqual(await client.receiveMany(2), ["text", Buffer.from("binary")]);
});

connected("echoes text in fragments, with pings between them", "/echo", async (client) => {
  const pongs = [];
  client.socket.on("pong", (payload) => pongs.push(payload.toString()));
  for (const fragment of ["Hel", "", "lo 😀"]) {
    client.send(fragment, { fin: false });
    client.socket.ping("between");
  }
  client.send("", { fin: true });
  assert.equal(await client.receive(), "Hello 😀");
  assert.deepEqual(pongs, ["between", "between", "between"]);
});

connected("echoes binary in a thousand fragments", "/echo", async (client) => {
  const fragments = Array.from({ length: 1_000 }, () => randomBytes(64));
  fragments.forEach((fragment, index) => client.send(fragment, { fin: index === 999 }));
  assert.deepEqual(await client.receive(), Buffer.concat(fragments));
});

for (const payload of ["", "p", "x".repeat(125)]) {
  connected(`answers a ping of ${payload.length} bytes`, "/echo", async (client) => {
    client.socket.ping(payload);
    const [answer] = await once(client.socket, "pong");
    assert.equal(answer.toString(), payload);
  });
}

for (const code of [1000, 1001, 3000, 4999]) {
  for (const reason of ["", "bye", "再见 👋", "x".repeat(123)]) {
    connected(`echoes close ${code} "${reason.slice(0, 8)}"`, "/echo", async (client) => {
      client.socket.close(code, reason);
      assert.deepEqual(await client.closed, [code, reason]);
    });
  }
}

connected("answers an empty close with an empty one", "/echo", async (client) => {
  client.socket.close();
  assert.deepEqual(await client.closed, [1005, ""]);
});

connected("closes with 1009 one byte over the limit", "/echo", async (client) => {
  client.send(Buffer.alloc(MESSAGE_LIMIT + 1));
  assert.equal((await client.closed)[0], 1009);
});

connected("closes with 1009 when the last fragment goes over the limit", "/echo", async (client) => {
  client.send(Buffer.alloc(MESSAGE_LIMIT), { fin: false });
  client.send("x", { fin: true });
  assert.equal((await client.closed)[0], 1009);
});

for (const [offered, chosen] of [
  [[], ""],
  [["chat"], "chat"],
  [["superchat", "chat"], "superchat"],
  [["chat", "superchat"], "chat"],
  [["!#$%&'*+-.^_`|~aZ0"], "!#$%&'*+-.^_`|~aZ0"],
  [Array.from({ length: 50 }, (_, number) => `protocol-${number}`), "protocol-0"],
]) {
  test(`chooses "${chosen}" of ${offered.length} subprotocols`, { timeout }, async () => {
    const client = await Client.connect("/echo", offered);
    assert.equal(client.socket.protocol, chosen);
    client.socket.close();
    await client.closed;
  });
}

test("a hundred clients get their hundred messages in order", { timeout }, async () => {
  const clients = await Promise.all(Array.from({ length: 100 }, () => Client.connect("/echo")));
  const exchanges = clients.map(async (client, number) => {
    const messages = Array.from({ length: 100 }, (_, index) => `${number}/${index} ` + "x".repeat((index * 37) % 2_000));
    for (const message of messages) client.send(message);
    assert.deepEqual(await client.receiveMany(100), messages);
    client.socket.close();
    await client.closed;
  });
  await Promise.all(exchanges);
});

connected("F2 F3 F4 A2: the tutorial echo", "/ws", async (client) => {
  for (const message of ["hi", "", Buffer.from([0, 1]), "😀中"]) client.send(message);
  assert.deepEqual(await client.receiveMany(3), ["Echo: hi", "Echo: ", "Echo: 😀中"]);
});

connected("F6: the tutorial echo closes", "/ws", async (client) => {
  client.socket.close(1000, "bye");
  assert.deepEqual(await client.closed, [1000, "bye"]);
});

connected("F9 F10: the ConnectionManager", ["/ws/-71", "/ws/0072"], async (first, second) => {
  first.send("hi");
  first.send("last");
  assert.deepEqual(await first.receiveMany(4), [
    "Client -71: hi",
    "Client -71 says: hi",
    "Client -71: last",
    "Client -71 says: last",
  ]);
  first.socket.terminate();
  assert.deepEqual(await second.receiveMany(3), ["Client -71 says: hi", "Client -71 says: last", "Client -71 left"]);
  second.send("z");
  assert.equal(await second.receive(), "Client 72: z");
});

connected("D1 D2 D6: chat rooms", ["/ws/chat/a/", "/ws/chat/a/", "/ws/chat/b/"], async (first, second, other) => {
  other.send('{"message": "elsewhere"}');
  assert.equal(await other.receive(), '{"message": "elsewhere"}');
  first.send('{"message": "你好 😀", "user": "u"}');
  for (const client of [first, second]) {
    assert.equal(await client.receive(), String.raw`{"message": "\u4f60\u597d \ud83d\ude00"}`);
  }
});

connected("D4: a chat room closes on an invalid message", ["/ws/chat/c/", "/ws/chat/c/"], async (sender, peer) => {
  sender.send("hello");
  assert.equal((await sender.closed)[0], 1011);
  peer.send('{"message": "next"}');
  assert.equal(await peer.receive(), '{"message": "next"}');
});

connected("broadcast reaches every member unchanged", Array(3).fill("/broadcast/node"), async (...members) => {
  const messages = ["text 😀", Buffer.from([0, 255]), "", Buffer.alloc(0)];
  for (const message of messages) members[0].send(message);
  for (const member of members) assert.deepEqual(await member.receiveMany(4), messages);
});

for (const [path, status] of [
  ["/no/such/path", 404],
  ["/ws/abc", 403],
  ["/ws/chat/a%20b/", 404],
]) {
  test(`${path} is refused with ${status}`, { timeout }, async () => {
    assert.equal(await refusal(path), status);
  });
}
