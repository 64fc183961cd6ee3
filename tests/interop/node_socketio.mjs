// npm's `socket.io-client`: one script must see the same from the Flask-SocketIO tutorial and from
// frameloop. S numbers are rows of tests/tables/endpoints.md.

import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";

import { require, serverUrl } from "./environment.mjs";

const { io } = require("socket.io-client");
const { FLASK_SOCKETIO_URL } = process.env;
const TRANSPORTS = [["polling", "websocket"], ["websocket"], ["polling"]];
const timeout = 60_000;

/** A client and the events that it has received, in order. */
class Client {
  static async connect(url, options) {
    const client = new Client(url, options);
    await once(client.socket, "connect");
    await client.until(1); // the greeting
    return client;
  }

  constructor(url, options) {
    this.events = [];
    this.socket = io(url, { forceNew: true, reconnection: false, timeout: 10_000, ...options });
    this.socket.onAny((...event) => this.add(event.filter((part) => typeof part !== "function")));
    this.socket.on("disconnect", (reason) => this.add(["disconnect", reason]));
    this.socket.on("connect_error", (error) => this.add(["connect_error", error.message]));
  }

  add(event) {
    this.events.push(event);
    this.wake?.();
  }

  /** Waits until this many events have arrived. */
  async until(count) {
    while (this.events.length < count) await new Promise((resolve) => (this.wake = resolve));
  }

  /** Emits an event. Returns all arguments of its acknowledgement. */
  acknowledged(...event) {
    return new Promise((resolve) => this.socket.emit(...event, (...answer) => resolve(answer)));
  }

  /** Waits for this many events since the last call, and checks that there are no more. */
  async received(count) {
    await this.until(count);
    await this.acknowledged("ack", 0);
    return this.events.splice(0);
  }

  async upgraded() {
    const { engine } = this.socket.io;
    if (engine.transport.name === "polling") await once(engine, "upgrade");
  }

  close() {
    this.socket.disconnect();
  }
}

/** The events of two clients. */
async function transcript(url, transports) {
  const seen = [];
  const note = (what, value) => seen.push([what, value]);
  const a = await Client.connect(url, { transports });
  const b = await Client.connect(url, { transports });
  if (transports.length > 1) await Promise.all([a.upgraded(), b.upgraded()]);
  note("transports", [a, b].map((client) => client.socket.io.engine.transport.name));
  const both = async (what, counts) => {
    note(what, [await a.received(counts[0]), await b.received(counts[1])]);
  };
  await both("greetings", [1, 1]);

  a.socket.send("hi");
  await both("send", [1, 1]);
  const messages = ["你好 😀", "", { x: 1, y: [true, null, "é", 1.5] }, true, null, 7, Buffer.from([0, 1, 255])];
  for (const message of messages) {
    a.socket.emit("message", message);
    await both("message", [1, 1]);
  }
  a.socket.emit("message");
  a.socket.emit("message", 1, 2);
  a.socket.emit("unknown", 1);
  await both("nothing to answer", [0, 0]);

  for (const args of [["x"], [Buffer.from([1, 2, 3])], [1, "two", { three: [3] }], [{ deep: Buffer.from([9]) }]]) {
    note("acknowledged", await a.acknowledged("echo", ...args));
    await both("echo", [1, 0]);
  }
  note("acknowledged message", await a.acknowledged("message", "x"));
  await both("message", [1, 1]);
  note("acknowledged by two", await a.acknowledged("ack", { n: 1 }));

  await a.acknowledged("join", { room: "r" });
  await both("joined", [1, 0]);
  for (const message of [{ room: "r", data: "to r" }, { room: "none", data: "to nobody" }]) {
    b.socket.emit("room", message);
  }
  await both("to the room", [1, 0]);
  await b.acknowledged("join", { room: "r" });
  await both("joined", [1, 1]);
  await a.acknowledged("room", { room: "r", data: "to others", self: false });
  await both("to the room's others", [0, 1]);
  await a.acknowledged("room", { room: "r", data: { any: [1] } });
  await both("to the room", [1, 1]);
  note("left", await a.acknowledged("leave", { room: "r" }));
  await b.acknowledged("room", { room: "r", data: "to r" });
  await both("to the room", [0, 1]);

  a.socket.on("question", (question, answer) => answer("yes", question));
  a.socket.emit("ask", { q: 1 });
  await both("asked", [2, 1]);

  const ns = new Client(`${url}/ns`, { transports });
  await ns.until(1);
  ns.socket.send("to the namespace");
  await ns.until(2);
  note("namespace", ns.events);
  ns.close();
  const refused = new Client(`${url}/ns`, { transports, auth: { token: "bad" } });
  await refused.until(1);
  note("refused", refused.events);
  refused.close();
  const unknown = new Client(`${url}/nope`, { transports });
  await unknown.until(1);
  // The text of the error differs: Flask-SocketIO does not send the protocol's.
  note("unknown namespace", unknown.events.map(([name]) => name));
  unknown.close();
  await both("others are undisturbed", [0, 0]);

  a.socket.emit("bye");
  await a.until(1);
  note("disconnected by the server", a.events.splice(0));
  b.close();
  await b.until(1);
  note("disconnected by the client", b.events.splice(0));
  a.close();
  return seen;
}

for (const transports of TRANSPORTS) {
  test(`the same as Flask-SocketIO by ${transports.join(" and ")}`, { timeout }, async () => {
    const ours = await transcript(serverUrl, transports);
    assert.deepEqual(ours, await transcript(FLASK_SOCKETIO_URL, transports));
    const find = (what) => ours.find(([name]) => name === what)[1];
    // S1, S2 and S8, in case both servers have the same error.
    assert.deepEqual(find("transports"), Array(2).fill(transports.at(-1)));
    assert.deepEqual(find("greetings"), Array(2).fill([["response", { data: "连接成功" }]]));
    assert.deepEqual(find("send"), Array(2).fill([["response", { data: "收到: hi" }]]));
    assert.deepEqual(find("disconnected by the server"), [["disconnect", "io server disconnect"]]);
  });

  // Enough clients for broadcasts that bypass the engine.
  test(`the same with many clients by ${transports.join(" and ")}`, { timeout }, async () => {
    const amidCrowd = async (url) => {
      const connect = () => Client.connect(url, { transports });
      const crowd = await Promise.all(Array.from({ length: 24 }, connect));
      const seen = await transcript(url, transports);
      const counts = crowd.map((client) => client.events.length);
      crowd.forEach((client) => client.close());
      return [seen, counts];
    };
    assert.deepEqual(await amidCrowd(serverUrl), await amidCrowd(FLASK_SOCKETIO_URL));
  });

  test(`S11 a message over the limit ends only its session, by ${transports.join(" and ")}`, { timeout }, async () => {
    const other = await Client.connect(serverUrl, { transports });
    const client = await Client.connect(serverUrl, { transports });
    if (transports.length > 1) await Promise.all([client.upgraded(), other.upgraded()]);
    const large = "x".repeat(900_000);
    assert.deepEqual(await client.acknowledged("ack", large), ["ok", large]);
    client.socket.emit("ack", "x".repeat(1_000_001));
    await client.until(2);
    assert.equal(client.events.at(-1)[0], "disconnect");
    assert.deepEqual(await other.acknowledged("ack", 1), ["ok", 1]);
    other.close();
  });
}

test("S9 an upgrade neither loses nor repeats nor reorders messages", { timeout }, async () => {
  const client = await Client.connect(serverUrl, { transports: ["polling", "websocket"] });
  const numbers = Array.from({ length: 200 }, (_, index) => index + 1);
  client.events.splice(0);
  for (const number of numbers) {
    client.socket.emit("echo", number);
    if (number % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await client.upgraded();
  const echoes = (await client.received(200)).filter(([name]) => name === "echo");
  assert.deepEqual(echoes, numbers.map((number) => ["echo", number]));
  client.close();
});
