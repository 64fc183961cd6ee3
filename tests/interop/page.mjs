// The page at / in Chromium: all its features, and rows J1 to J8. Screenshots go to target/page.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import path from "node:path";
import test, { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { require, serverUrl, websocketUrl } from "./environment.mjs";

const { chromium } = require("playwright-core");
const axe = require("axe-core").source;
const run = promisify(execFile);
const address = `${serverUrl}/`;
const screenshots = fileURLToPath(new URL("../../target/page/", import.meta.url));
const wide = { viewport: { width: 1280, height: 900 }, locale: "en-GB", colorScheme: "light" };
let browser;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
});

after(() => browser?.close());

/** A case in a new page. Only `expected` messages may appear in its console. */
function visiting(name, use, { options = wide, expected = /^$/, open = address, prepare = () => {} } = {}) {
  test(name, { timeout: 180_000 }, async (context) => {
    const visit = await browser.newPage(options);
    visit.setDefaultTimeout(60_000);
    const complaints = [];
    visit.requests = [];
    visit.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
    visit.on("pageerror", (error) => complaints.push(String(error)));
    visit.on("request", (asked) => visit.requests.push(asked.url()));
    await visit.addInitScript(() => {
      window.violations = [];
      addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
    });
    await visit.addInitScript(prepare);
    try {
      await visit.goto(open);
      await use(visit, context);
      assert.deepEqual(complaints.filter((complaint) => !expected.test(complaint)), []);
      assert.deepEqual(await visit.evaluate("violations"), visit.refused ?? []);
      for (const url of visit.requests) assert.ok(url.startsWith(address) || /^(blob|data):/.test(url), url);
    } finally {
      await visit.close();
    }
  });
}

const rowsOf = (log) => `${log} .entry`;

/** The rows of a log, once all are drawn: event, direction, content. */
async function rows(visit, log = "#log") {
  await visit.waitForFunction(() => !log.drawing && !sessionLog.drawing);
  return visit.locator(rowsOf(log)).evaluateAll((entries) =>
    entries.map((entry) => ({
      direction: entry.dataset.direction,
      event: entry.querySelector(".event").textContent.slice(2),
      data: entry.querySelector(".data").textContent,
      size: entry.querySelector(".size").textContent,
    })),
  );
}

/** Waits for a row with this event and this text. */
async function row(visit, event, text = "", log = "#log") {
  const found = visit.locator(rowsOf(log)).filter({ has: visit.locator(".event", { hasText: event }), hasText: text });
  await found.first().waitFor();
  return found;
}

async function connect(visit, target) {
  if (target) await visit.fill("#url", target.startsWith("/") ? websocketUrl + target : target);
  await visit.click("#connect");
  await visit.waitForSelector('#state[data-state="1"]');
}

async function compose(visit, kind, text) {
  await visit.check(`[name=kind][value=${kind}]`, { force: true });
  await visit.fill("#message", text);
}

const value = (visit, selector) => visit.locator(selector).textContent();

visiting("J1: the JavaScript that the page prints, pasted into a page of another origin", async (visit) => {
  const server = createServer((_, response) => response.end("<!doctype html><title>another origin</title>")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const elsewhere = await browser.newPage();
  const logged = [];
  elsewhere.on("console", (message) => logged.push(message.text()));
  const until = async (text) => {
    while (!logged.includes(text)) await elsewhere.waitForEvent("console");
  };
  await elsewhere.goto(`http://127.0.0.1:${server.address().port}/`);
  await elsewhere.addScriptTag({ content: await value(visit, "#snippet") });
  await until("连接已建立");
  await until("Echo: Hello Server");
  await elsewhere.evaluate("ws.close(1000, 'done')");
  await until("1000 done true");
  await elsewhere.close();
  server.close();
});

visiting("J2: a close with code and reason", async (visit) => {
  await connect(visit);
  await visit.fill("#closeCode", "3000");
  await visit.fill("#reason", "x");
  await visit.click("#disconnect");
  await row(visit, "close", "3000 library code “x” · clean");
  await visit.waitForSelector('#state[data-state="3"]');
  await connect(visit);
  await visit.fill("#closeCode", "1001");
  await visit.click("#disconnect"); // a page may not send this code
  await visit.locator("#connection .problem", { hasText: "the code must be 1000 or 3000 to 4999" }).waitFor();
  assert.equal(await visit.locator("#state").getAttribute("data-state"), "1");
});

visiting("J3: an unknown path is an error, then a close 1006", async (visit) => {
  await visit.fill("#url", `${websocketUrl}/nowhere`);
  await visit.click("#connect");
  await row(visit, "close", "1006 no Close received · not clean");
  assert.deepEqual((await rows(visit)).map(({ event }) => event), ["error", "close"]);
}, { expected: /Unexpected response code: 404/ });

visiting("J4: bytes from hex, Base64 and a file are echoed as bytes", async (visit) => {
  await connect(visit, "/echo");
  await compose(visit, "hex", "01 02 03");
  await visit.click("#send");
  await row(visit, "message", "01 02 033 B bin");
  await compose(visit, "base64", "/wA=");
  await visit.click("#send");
  await row(visit, "message", "ff 002 B bin");
  const bytes = Buffer.from(Array.from({ length: 5000 }, (_, at) => at % 256));
  await visit.setInputFiles("#file", { name: "bytes.bin", mimeType: "application/octet-stream", buffer: bytes });
  const found = await row(visit, "message", "5000 B bin");
  await found.locator("summary").click();
  await found.locator("pre", { hasText: "000040  40 41 42 43" }).waitFor();
  await found.locator("pre", { hasText: "… 904 more bytes" }).waitFor();
  await visit.fill("#size", "70000");
  await visit.click("#generate");
  await row(visit, "message", "70000 B");
  for (const [kind, text, problem] of [["hex", "0 1 2", "invalid hex"], ["base64", "?", "invalid Base64"], ["json", "{", "invalid JSON"]]) {
    await compose(visit, kind, text);
    await visit.click("#send");
    await visit.locator("#problem", { hasText: problem }).waitFor();
  }
  assert.equal((await rows(visit)).length, 9);
});

visiting("the page explains what a browser refuses", async (visit) => {
  const said = async (selector, problem) => {
    await visit.locator(`${selector} .problem`, { hasText: problem }).waitFor();
    assert.doesNotMatch((await value(visit, `${selector} .problem`)).replace(/WebSocket|JSON|Socket\.IO/g, ""), /[A-Za-z]{2}/);
  };
  const refused = async (url, protocols, problem) => {
    await visit.fill("#url", url);
    await visit.fill("#protocols", protocols);
    await visit.click("#connect");
    await said("#connection", problem);
  };
  for (const url of ["ws://[", "ftp://127.0.0.1/", `${websocketUrl}/echo#part`]) await refused(url, "", "无效的 WebSocket 网址");
  for (const protocols of ["a, a", "a b"]) await refused("/echo", protocols, "子协议无效：使用不重复的有效标记");
  await visit.fill("#protocols", "");
  await connect(visit);
  for (const [code, reason] of [["1001", ""], ["1000", "中".repeat(42)]]) {
    await visit.fill("#closeCode", code);
    await visit.fill("#reason", reason);
    await visit.click("#disconnect");
    await said("#connection", "关闭码必须是");
  }
  await compose(visit, "json", "{\n ]");
  await visit.click("#send");
  await said("#composer", "无效的 JSON：第 2 行第 2 列");
  await compose(visit, "json", "x");
  await visit.click("#send");
  await said("#composer", /无效的 JSON$/);
  await visit.click("#sessionOpen");
  await visit.waitForSelector('#sessionState[data-state="1"]');
  await visit.fill("#event", "disconnect");
  await visit.click("#emit");
  await said("#emitter", "此事件名称由 Socket.IO 保留");
}, { options: { ...wide, locale: "zh-CN" } });

visiting("J5: the page makes no other request, and its policy lets no other script run", async (visit) => {
  assert.deepEqual(visit.requests.filter((url) => !url.startsWith("data:")), [address]);
  await visit.evaluate(() => document.body.append(Object.assign(document.createElement("script"), { textContent: "window.injected = 1" })));
  assert.equal(await visit.evaluate("window.injected"), undefined);
  visit.refused = ["script-src-elem"];
}, { expected: /inline script violates the following Content Security Policy/ });

visiting("J6: received messages are shown as text", async (visit) => {
  const image = "<img src=x onerror=window.ran=1>";
  await connect(visit, "/echo");
  await compose(visit, "text", image);
  await visit.click("#send");
  await row(visit, "message", image);
  await visit.click("#join");
  await visit.locator(".pane").last().locator(".note").waitFor();
  await visit.locator(".pane input").last().fill(image);
  await visit.locator(".pane input").last().press("Enter");
  await visit.locator(".pane .talk p", { hasText: `Client 2: ${image}` }).waitFor();
  await visit.click("#sessionOpen");
  await visit.waitForSelector('#sessionState[data-state="1"]');
  await visit.fill("#args", JSON.stringify([image]));
  await visit.click("#emit");
  await row(visit, "response", `收到: ${image}`, "#sessionLog");
  assert.equal(await visit.locator("img").count(), 0);
  assert.equal(await visit.evaluate("window.ran"), undefined);
});

visiting("J7: 10,000 messages leave 1,000 rows and a responsive page", async (visit, context) => {
  await connect(visit, "/echo");
  await visit.evaluate(() => {
    window.longest = 0;
    let last = performance.now();
    requestAnimationFrame(function frame(now) {
      longest = Math.max(longest, now - last);
      last = now;
      requestAnimationFrame(frame);
    });
  });
  await compose(visit, "text", "again");
  await visit.fill("#every", "0");
  await visit.fill("#times", "10000");
  await visit.click("#repeat");
  await visit.check("#log [value=in]", { force: true }); // while messages arrive
  await visit.waitForFunction(() => document.querySelector("#echoes").textContent === "10000");
  await visit.check('#log [value=""]', { force: true });
  // The count may be updated later than the rows.
  await visit.locator(rowsOf("#log")).nth(999).waitFor({ state: "attached" });
  await visit.locator("#log .count", { hasText: "1000 rows / 20001" }).waitFor();
  assert.equal(await visit.locator(rowsOf("#log")).count(), 1000);
  context.diagnostic(`longest frame ${Math.round(await visit.evaluate("longest"))} ms`);
});

visiting("J8: connect, send, echo, disconnect, with the keyboard only", async (visit) => {
  const focus = () => visit.evaluate(() => document.activeElement.id);
  const tabTo = async (id) => {
    for (let steps = 0; (await focus()) !== id; steps++) {
      assert.ok(steps < 60, `no way to ${id}`);
      await visit.keyboard.press("Tab");
    }
  };
  await tabTo("url");
  await visit.keyboard.press("Enter");
  await visit.waitForSelector('#state[data-state="1"]');
  await tabTo("message");
  for (const text of ["first", "second"]) {
    await visit.keyboard.press("Control+A");
    await visit.keyboard.type(text);
    await visit.keyboard.press("Control+Enter");
    await row(visit, "message", `Echo: ${text}`);
  }
  const recall = async (key) => {
    const before = await visit.inputValue("#message");
    await visit.keyboard.press(key);
    await visit.waitForFunction((before) => message.value !== before, before);
    return visit.inputValue("#message");
  };
  await visit.keyboard.press("Control+A");
  await visit.keyboard.type("in several\nlines");
  await visit.keyboard.press("ArrowUp"); // to the first line
  assert.equal(await visit.inputValue("#message"), "in several\nlines");
  const recalled = [];
  for (const key of ["ArrowUp", "ArrowUp"]) recalled.push(await recall(key));
  for (const key of ["ArrowDown", "ArrowDown"]) recalled.push(await recall(key));
  assert.deepEqual(recalled, ["second", "first", "second", "in several\nlines"]);
  await visit.keyboard.press("Shift+Tab");
  await visit.keyboard.press("ArrowRight");
  assert.equal(await visit.locator("[name=kind]:checked").getAttribute("value"), "json");
  await visit.locator("#url").focus();
  await tabTo("disconnect");
  await visit.keyboard.press("Space");
  await row(visit, "close", "1000 normal");
  assert.deepEqual((await rows(visit)).map(({ event }) => event), ["open", "send", "message", "send", "message", "close"]);
});

visiting("connection: every endpoint that the server lists can be chosen", async (visit) => {
  const listed = [...(await (await fetch(address)).text()).matchAll(/^websocket +(\S+)/gm)].map(([, path]) => path);
  const chips = visit.locator("#endpoints button");
  assert.deepEqual((await chips.allTextContents()).sort(), listed.sort());
  for (const [at, path] of (await chips.allTextContents()).entries()) {
    await chips.nth(at).click();
    assert.equal(await visit.inputValue("#url"), websocketUrl + path);
    await connect(visit);
    await visit.click("#send");
    await row(visit, "message", "Hello");
    await visit.click("#disconnect");
    await visit.click("#log .clear");
  }
});

visiting("connection: subprotocol, facts and reconnection", async (visit) => {
  await visit.fill("#protocols", "chat.v2, chat.v1");
  await connect(visit, "/echo");
  await visit.locator("#protocol", { hasText: "chat.v2" }).waitFor();
  await visit.locator("#extensions", { hasText: "permessage-deflate" }).waitFor();
  await visit.locator("#openFor", { hasText: /^[0-9]+ s$/ }).waitFor();
  await visit.locator("#buffered", { hasText: /^0$/ }).waitFor();
  await visit.click("#disconnect");
  await visit.check("#again");
  await connect(visit, "/echo?close_after=1&close=4000&reason=bye");
  await visit.click("#send");
  await row(visit, "close", "4000 application code “bye”");
  await visit.waitForFunction(() => [...document.querySelectorAll("#log .event")].filter((event) => event.textContent.includes("open")).length === 3);
  await visit.waitForSelector('#state[data-state="1"]');
  await visit.click("#disconnect");
  await visit.waitForSelector('#state[data-state="3"]');
  assert.ok(await visit.locator("#disconnect").isDisabled());
});

visiting("connection: a reconnect waits, and can be cancelled", async (visit) => {
  const waits = () => visit.locator("#state", { hasText: "closed · reconnecting" }).waitFor();
  await visit.check("#again");
  await connect(visit, "/echo");
  await visit.fill("#closeCode", "1001");
  await visit.click("#disconnect"); // refused: the page still wants the connection
  await visit.locator("#connection .problem", { hasText: "the code" }).waitFor();
  await visit.evaluate(() => socket.close(4000));
  await waits();
  await visit.fill("#url", "ws://[");
  await visit.locator("#connection .problem", { hasText: "invalid WebSocket URL" }).waitFor();
  await visit.locator("#state", { hasText: /^closed$/ }).waitFor();
  for (const leave of ["#again", "#disconnect"]) {
    await visit.fill("#closeCode", "1000");
    await visit.check("#again");
    await connect(visit, "/echo");
    await visit.evaluate(() => socket.close(4000));
    await waits();
    await visit.click(leave);
    await visit.locator("#state", { hasText: /^closed$/ }).waitFor();
    await visit.waitForTimeout(1000);
    assert.equal(await value(visit, "#state"), "closed");
  }
});

visiting("connection: a new one replaces the open one", async (visit) => {
  await connect(visit, "/ws");
  await visit.click("#endpoints button:text-is('/echo')");
  await visit.press("#url", "Enter");
  await row(visit, "close", "1000 normal · clean");
  await visit.click("#send");
  await row(visit, "message", "Hello Server12 B text");
  assert.equal((await rows(visit)).filter(({ event }) => event === "close").length, 1);
});

visiting("connection: unchanged elements are not redrawn", async (visit) => {
  await connect(visit, "/echo");
  const changes = await visit.evaluate(async () => {
    const changed = new Set();
    const observer = new MutationObserver((records) => records.forEach(({ target }) => changed.add(target.id)));
    for (const element of document.querySelectorAll(".state, .facts dd, .tiles dd")) observer.observe(element, { childList: true });
    await new Promise((resolve) => setTimeout(resolve, 1500));
    return [...changed];
  });
  assert.deepEqual(changes, ["openFor"]);
});

visiting("composer: JSON is checked and formatted", async (visit) => {
  await visit.click("#send");
  await visit.locator("#problem", { hasText: "not connected" }).waitFor();
  await visit.click("#endpoints button:has-text('/ws/chat/lobby/')");
  assert.equal(await visit.inputValue("#message"), '{"message": "Hello"}');
  await visit.click("#beautify");
  assert.equal(await visit.inputValue("#message"), '{\n  "message": "Hello"\n}');
  await compose(visit, "json", String.raw`{"2":[ ],"1":{},"n":12345678901234567890.10,"1":["a \" }, b",[ {"c":null}]]}`);
  await visit.click("#beautify");
  assert.equal(await visit.inputValue("#message"), String.raw`{
  "2": [],
  "1": {},
  "n": 12345678901234567890.10,
  "1": [
    "a \" }, b",
    [
      {
        "c": null
      }
    ]
  ]
}`);
  await compose(visit, "json", '{"message": "Hello"}');
  await connect(visit);
  await visit.click("#send");
  const found = await row(visit, "message", '{"message": "Hello"}');
  await found.locator("summary").click();
  await found.locator("pre", { hasText: '  "message": "Hello"' }).waitFor();
});

visiting("composer: repeats the given number of times, and stops", async (visit) => {
  await connect(visit, "/echo");
  const pressed = visit.locator("#repeat[aria-pressed=true]");
  await visit.fill("#every", "1");
  await visit.fill("#times", "50");
  await visit.click("#repeat");
  await visit.waitForFunction(() => document.querySelector("#echoes").textContent === "50");
  assert.equal(await pressed.count(), 0);
  assert.equal((await rows(visit)).filter(({ event }) => event === "send").length, 50);
  await visit.fill("#every", "60000");
  await visit.click("#repeat");
  await visit.waitForFunction(() => document.querySelector("#echoes").textContent === "51");
  assert.equal(await pressed.count(), 1);
  await visit.click("#repeat");
  assert.equal(await pressed.count(), 0);
  await visit.click("#repeat");
  await visit.click("#disconnect");
  await visit.waitForSelector("#repeat[aria-pressed=false]");
});

visiting("composer: only valid numbers take effect", async (visit) => {
  await connect(visit, "/echo");
  for (const [field, text, button] of [["#every", "-1", "#repeat"], ["#times", "", "#repeat"], ["#size", "16777217", "#generate"]]) {
    const before = await visit.inputValue(field);
    await visit.fill(field, text);
    await visit.click(button);
    assert.equal(await visit.evaluate(() => `#${document.activeElement.id}`), field);
    await visit.fill(field, before);
  }
  assert.equal(await value(visit, "#repeat"), "Repeat");
  assert.deepEqual((await rows(visit)).map(({ event }) => event), ["open"]);
});

const written = async (visit) => [await visit.locator("[name=kind]:checked").getAttribute("value"), await visit.inputValue("#message")];

visiting("composer: its history keeps the type of each message", async (visit) => {
  await connect(visit, "/echo");
  const messages = [["hex", "00 ff"], ["json", "[1]"], ["base64", "/wA="], ["text", "/wA="]];
  for (const message of messages) {
    await compose(visit, ...message);
    await visit.click("#send");
  }
  await compose(visit, "json", "[");
  await visit.locator("#message").focus();
  for (const message of messages.reverse()) {
    const before = await written(visit);
    await visit.keyboard.press("ArrowUp");
    await visit.waitForFunction(([kind, text]) => composer.elements.kind.value !== kind || message.value !== text, before);
    assert.deepEqual(await written(visit), message);
  }
  for (let step = 0; step < 4; step++) await visit.keyboard.press("ArrowDown");
  await visit.waitForFunction(() => message.value === "[");
  assert.deepEqual(await written(visit), ["json", "["]);
});

visiting("composer: saved messages outlive the page", async (visit) => {
  for (const kind of ["text", "hex"]) {
    await compose(visit, kind, "00");
    await visit.click("#save");
  }
  await visit.reload();
  for (const [at, kind] of ["text", "hex"].entries()) {
    await compose(visit, "json", "");
    await visit.selectOption("#saved", { index: at + 1 });
    assert.deepEqual(await written(visit), [kind, "00"]);
  }
  await visit.click("#forget");
  await visit.reload();
  await visit.selectOption("#saved", "00");
  assert.deepEqual(await written(visit), ["text", "00"]);
  await visit.click("#save"); // saved twice, listed once
  assert.equal(await visit.locator("#saved option").count(), 2);
  assert.equal(await visit.inputValue("#saved"), "00");
  await visit.click("#forget");
  await visit.reload();
  assert.equal(await visit.locator("#saved option").count(), 1);
});

for (const [what, prepare] of [
  ["forbidden", () => Object.defineProperty(window, "localStorage", { get: () => { throw new DOMException("denied", "SecurityError"); } })],
  ["full", () => (Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); })],
]) {
  visiting(`composer: without storage (${what}) nothing is saved, and the page says so`, async (visit) => {
    await visit.click("#save");
    await visit.locator("#problem", { hasText: "this browser cannot save messages" }).waitFor();
    assert.equal(await visit.locator("#saved option").count(), 1);
    await connect(visit);
  }, { prepare });
}

visiting("composer: storage may contain anything", async (visit) => {
  for (const stored of ["{", "{}", "[null]", '["text"]', "3"]) {
    await visit.evaluate((stored) => localStorage.setItem("frameloop.saved", stored), stored);
    await visit.reload();
    assert.equal(await visit.locator("#saved option").count(), 1, stored);
  }
  await connect(visit);
});

visiting("log: filter, show, pause, copy, export, clear", async (visit) => {
  await visit.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await connect(visit, "/echo");
  const sendAll = (texts) => visit.evaluate((texts) => texts.forEach((text) => send(text)), texts);
  await sendAll(["apple", "pear", "apple pie"]);
  await row(visit, "message", "apple pie");
  const shown = async () => (await rows(visit)).map(({ event, data }) => `${event} ${data}`);
  await visit.fill("#log .filter", "APPLE");
  await visit.waitForFunction(() => document.querySelectorAll("#log .entry").length === 4);
  await visit.check("#log [value=out]", { force: true });
  await visit.waitForFunction(() => document.querySelectorAll("#log .entry").length === 2);
  assert.deepEqual(await shown(), ["send apple", "send apple pie"]);
  await visit.fill("#log .filter", "");
  await visit.check('#log [value=""]', { force: true });
  await visit.waitForFunction(() => document.querySelectorAll("#log .entry").length === 7);

  const pause = visit.locator("#log .pause");
  await pause.click();
  await sendAll(["held"]);
  await visit.waitForFunction(() => document.querySelector("#log .pause").textContent === "Resume (2 held)");
  assert.equal((await rows(visit)).length, 7);
  await pause.click();
  await row(visit, "message", "held");
  assert.equal((await rows(visit)).length, 9);
  await pause.click();
  await sendAll(Array.from({ length: 1500 }, (_, number) => `number ${number}`));
  await visit.waitForFunction(() => document.querySelector("#log .pause").textContent === "Resume (1000 held)");
  await visit.waitForFunction(() => document.querySelector("#echoes").textContent === "1504");
  await pause.click();
  await visit.locator("#log .entry", { hasText: "number 1499" }).last().waitFor();
  assert.equal((await rows(visit)).length, 1000);

  await visit.click("#log .clear");
  await visit.waitForFunction(() => !document.querySelector("#log .entry"));
  await sendAll(["last"]);
  await row(visit, "message", "last");
  await visit.evaluate(() => send(new Uint8Array([1, 255]).buffer));
  await row(visit, "message", "01 ff");
  const expected = ["send text last", "message text last", "send binary 01 ff", "message binary 01 ff"];
  const parsed = (lines) => lines.trim().split("\n").map((line) => JSON.parse(line)).map(({ event, type, data, hex }) => `${event} ${type} ${data ?? hex}`);
  await visit.click("#log .copy");
  await visit.locator("#log .copy", { hasText: "Copied" }).waitFor();
  assert.deepEqual(parsed(await visit.evaluate(() => navigator.clipboard.readText())), expected);
  const exported = async () => {
    const [download] = await Promise.all([visit.waitForEvent("download"), visit.click("#log .export")]);
    assert.equal(download.suggestedFilename(), "frameloop.jsonl");
    return readFile(await download.path(), "utf8");
  };
  assert.deepEqual(parsed(await exported()), expected);
  // Programs read these values from separate fields.
  await visit.click("#disconnect");
  await row(visit, "close", "1000");
  const fields = (await exported()).trim().split("\n").map((line) => JSON.parse(line));
  assert.ok(fields[1].trip >= 0, JSON.stringify(fields[1]));
  const { code, reason, clean } = fields.at(-1);
  assert.deepEqual({ code, reason, clean }, { code: 1000, reason: "", clean: true });
});

visiting("log: time of day, type, and the JSON that was sent", async (visit) => {
  await connect(visit, "/echo");
  const json = '{"n": 12345678901234567890}';
  await visit.evaluate((json) => send(json), json);
  const found = await row(visit, "message", `${json}27 B text`);
  const time = found.locator("time");
  const [at, local] = [await time.getAttribute("datetime"), await time.textContent()];
  assert.equal(local, new Date(Date.parse(at) + 8 * 3_600_000).toISOString().slice(11, 23));
  await found.locator("summary").click();
  await found.locator("pre", { hasText: "12345678901234567890\n" }).waitFor();
}, { options: { ...wide, timezoneId: "Asia/Shanghai" } });

visiting("log: arrow keys move between rows, and a tab leaves them", async (visit) => {
  await connect(visit, "/echo");
  await visit.evaluate(() => Array.from({ length: 50 }, (_, number) => send(`[${number}]`)));
  await row(visit, "message", "[49]");
  await visit.locator("#log .rows").focus();
  for (const key of ["ArrowUp", "ArrowUp", "ArrowUp", "ArrowDown", "Enter"]) await visit.keyboard.press(key);
  assert.ok(await visit.locator("#log .entry").nth(-2).evaluate((entry) => entry.open && entry.contains(document.activeElement)));
  await visit.keyboard.press("Tab");
  assert.ok(await visit.evaluate(() => Boolean(document.activeElement.closest("#code"))));
});

visiting("log: only the beginning of a long text stays in memory", async (visit) => {
  await connect(visit, "/echo");
  const debuggerOf = await visit.context().newCDPSession(visit);
  const heap = async () => {
    await debuggerOf.send("HeapProfiler.collectGarbage");
    return (await debuggerOf.send("Runtime.getHeapUsage")).usedSize / 1e6;
  };
  const before = await heap();
  await visit.evaluate(() => Array.from({ length: 40 }, (_, number) => send(String(number).padStart(1_000_000, "x"))) && undefined);
  await visit.waitForFunction(() => document.querySelector("#echoes").textContent === "40");
  const found = await row(visit, "message", /1000000 B text · [0-9.]+ ms/); // its round trip is still measured
  await found.nth(39).waitFor();
  const after = await heap();
  assert.ok(after - before < 10, `${before} MB before, ${after} MB after`);
});

visiting("log: without access to the clipboard, copying uses another way", async (visit) => {
  await connect(visit, "/echo");
  await visit.evaluate(() => (document.oncopy = () => (window.copied = getSelection().toString() || document.activeElement.value)));
  await visit.click("#log .copy");
  await visit.locator("#log .copy", { hasText: "Copied" }).waitFor();
  assert.match(await visit.evaluate("copied"), /"event":"open"/);
  assert.ok(await visit.evaluate(() => document.activeElement.matches("#log .copy")));
  await visit.evaluate(() => (document.execCommand = () => false));
  await visit.click("#copyCode");
  await visit.locator("#copyCode", { hasText: "not copied" }).waitFor();
}, { prepare: () => (Clipboard.prototype.writeText = async () => { throw new DOMException("denied", "NotAllowedError"); }) });

visiting("round trips: p50, p99 and their lines", async (visit) => {
  await connect(visit, "/ws");
  await visit.fill("#every", "1");
  await visit.fill("#times", "200");
  await visit.click("#repeat");
  await visit.waitForFunction(() => document.querySelector("#echoes").textContent === "200");
  const number = async (selector) => Number.parseFloat(await value(visit, selector));
  assert.ok((await number("#p50")) > 0 && (await number("#p50")) <= (await number("#p99")));
  const d = (name) => visit.locator(`#chart .${name}`).getAttribute("d");
  await visit.waitForFunction(() => document.querySelector("#chart .line").getAttribute("d").split("L").length === 200);
  for (const name of ["p50", "p99"]) assert.match(await d(name), /^M0 [0-9.]+H300$/);
  // The round trip includes the server's time, so a delayed echo has a long one.
  await visit.click("#disconnect");
  await connect(visit, "/echo?delay=300");
  await visit.click("#send");
  const found = await row(visit, "message", "Hello Server12 B");
  assert.ok(Number.parseFloat((await found.locator(".size").textContent()).split("· ")[1]) >= 300);
});

for (const [room, first, second] of [
  ["/ws/{n}", ["Client 1: hello", "Client 1 says: hello", "Client 2 says: well"], ["Client 1 says: hello", "Client 2: well", "Client 2 says: well"]],
  ["/ws/chat/lobby/", ['{"message": "hello"}', '{"message": "well"}'], ['{"message": "hello"}', '{"message": "well"}']],
  ["/broadcast/page", ["hello", "well"], ["hello", "well"]],
  ["ws/4{n}", ["Client 41: hello", "Client 41 says: hello", "Client 42 says: well"], ["Client 41 says: hello", "Client 42: well", "Client 42 says: well"]],
  ["/ws/chat/of_our_own/", ['{"message": "hello"}', '{"message": "well"}'], ['{"message": "hello"}', '{"message": "well"}']],
]) {
  visiting(`chat: two panes in ${room}`, async (visit) => {
    const pane = (at) => visit.locator(".pane").nth(at);
    await visit.fill("#room", room);
    await visit.press("#room", "Enter");
    for (const at of [0, 1]) await pane(at).locator(".note", { hasText: "joined" }).waitFor();
    for (const [at, text] of ["hello", "well"].entries()) {
      await pane(at).locator("input").fill(text);
      await pane(at).locator("button").click();
      for (const other of [0, 1]) await pane(other).locator("p", { hasText: text }).first().waitFor();
    }
    for (const [at, texts] of [first, second].entries()) {
      const said = pane(at).locator(".talk p:not(.note)");
      await said.nth(texts.length - 1).waitFor();
      assert.deepEqual(await said.allTextContents(), texts);
    }
    await visit.click("#leave");
    for (const at of [0, 1]) await pane(at).locator(".note", { hasText: "1000 normal" }).waitFor();
  });
}

visiting("chat: known rooms are offered", async (visit) => {
  const offered = visit.locator("#rooms option").evaluateAll((options) => options.map(({ value }) => value));
  assert.deepEqual(await offered, ["/ws/{n}", "/ws/chat/lobby/", "/broadcast/page"]);
  assert.equal(await visit.locator("#room").getAttribute("list"), "rooms");
});

visiting("code: the printed code runs", async (visit) => {
  await visit.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  const env = { ...process.env, PATH: `${path.join(process.env.INTEROP_CACHE, "venv/bin")}:${process.env.PATH}` };
  const runs = async (command, ...args) => (await run(command, args, { env }).catch((error) => error)).stdout;
  const snippet = async (language) => {
    await visit.check(`[name=language][value=${language}]`, { force: true });
    return value(visit, "#snippet");
  };
  await visit.fill("#message", "it's \"quoted\"");
  const echoed = "Echo: it's \"quoted\"\n";
  assert.equal(await runs("python", "-c", await snippet("Python")), echoed);
  assert.match(await snippet("Rust"), /socket\.send\("it's \\"quoted\\""\.into\(\)\)/);
  await visit.fill("#message", "\u0007\b\f\\u0007\n\\");
  const escaped = String.raw`socket.send("\u{0007}\u{8}\u{c}\\u0007\n\\".into())`;
  assert.ok((await snippet("Rust")).includes(escaped), await snippet("Rust"));
  await visit.fill("#message", "it's \"quoted\"");
  assert.equal(await runs("sh", "-c", await snippet("websocat")), echoed);
  assert.match(await runs("sh", "-c", await snippet("curl")), /^HTTP\/1.1 101 [^]*s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/i);
  await visit.click("#copyCode");
  await visit.locator("#copyCode", { hasText: "Copied" }).waitFor();
  assert.equal(await visit.evaluate(() => navigator.clipboard.readText()), await snippet("curl"));

  // The URL and the message contain characters that are special to a shell, to curl or to a compiler.
  await visit.fill("#url", `/echo?a='b"c\\d&e=$(id)\`id\`&x=[1-3]{a,b}&中=é f%20g`);
  await visit.fill("#protocols", "b, a");
  for (const message of ["it's $(id) `id` \\n\\0 中😀", "-n", "two\nlines", "turned\u202eround"]) {
    await visit.fill("#message", message);
    assert.equal(await runs("python", "-c", await snippet("Python")), `${message}\n`);
    assert.equal(await runs("sh", "-c", await snippet("websocat")), message.includes("\n") ? message : `${message}\n`);
  }
  assert.ok((await snippet("Rust")).includes(String.raw`socket.send("turned\u{202e}round".into())`));
  const uri = `${websocketUrl}/echo?a=%27b%22c\\\\d&e=$(id)\`id\`&x=[1-3]{a,b}&%E4%B8%AD=%C3%A9%20f%20g`;
  assert.ok((await snippet("Rust")).includes(`from_static("${uri}")`), await snippet("Rust"));
  assert.deepEqual((await runs("sh", "-c", await snippet("curl"))).match(/^HTTP.*101/gm), ["HTTP/1.1 101"]);
  for (const url of ["/echo", `${serverUrl}/echo`, ` ${websocketUrl}/echo `]) {
    await visit.fill("#url", url);
    assert.ok((await snippet("JavaScript")).includes(`("${websocketUrl}/echo", ["b","a"])`), url);
  }

  await visit.click("#endpoints button:text-is('/echo')");
  await visit.fill("#message", "Hello");
  assert.equal(await runs("python", "-c", await snippet("Python")), "Hello\n");
  assert.match(await snippet("JavaScript"), /\/echo", \["b","a"\]\)/);
  assert.match(await runs("sh", "-c", await snippet("curl")), /sec-websocket-protocol: b\r/i);
});

/** The status of the response to an opening handshake. */
function statusOf(target) {
  return new Promise((resolve, reject) => {
    const headers = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": 13, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==" };
    const asked = request(serverUrl + target, { headers, agent: false });
    asked.on("upgrade", (response, socket) => {
      socket.on("error", () => {}).destroy();
      resolve(response.statusCode);
    });
    asked.on("response", (response) => resolve(response.resume().statusCode));
    asked.on("error", reject);
    asked.end();
  });
}

const time = { good: ["0", "60000"], bad: ["-1", "60001"] };
const share = { good: ["0", "0.25", "1"], bad: ["-0.1", "1.1"] };
const size = { good: ["1", "16777216"], bad: ["0", "16777217"] };
const when = { good: ["1", "1000000", "5ms", "3600000ms", "1s", "0.5s", "3600s", "1.5m", "1h"], bad: ["1000001", "3600001ms", "-1", "3601s", "1.5", "2h", "1d"] };
const VALUES = {
  delay: time, jitter: time, drop: share, dup: share, reorder: share, fragment: size,
  trickle: { good: ["1", "1000000000"], bad: ["0", "1000000001"] },
  close: { good: ["1000", "1003", "1007", "1014", "3000", "4999"], bad: ["999", "1004", "1006", "1015", "2999", "5000"] },
  reason: { good: ["x".repeat(123), "中".repeat(41)], bad: ["x".repeat(124), "中".repeat(42)] },
  close_after: when, abort: when, stall: when,
  ping: { good: ["100", "3600000"], bad: ["99", "3600001"] },
  max_message_size: { good: ["1", "1048576"], bad: ["0", "1048577"] },
  seed: { good: ["0", "18446744073709551615"], bad: ["-1", "x"] },
};

visiting("faults: every parameter can be set within the server's range", async (visit) => {
  const parameters = await visit.locator("#asked [name]").evaluateAll((fields) => fields.map(({ name, type }) => [name, type]));
  const flags = parameters.filter(([, type]) => type === "checkbox").map(([name]) => name);
  assert.deepEqual(parameters.map(([name]) => name).sort(), [...Object.keys(VALUES), ...flags, "invalid"].sort());
  const violations = await visit.locator("#asked [name=invalid] option").evaluateAll((options) => options.map((option) => option.value).filter(Boolean));
  assert.equal(violations.length, 21);
  const cases = [
    ...Object.entries(VALUES).flatMap(([name, { good, bad }]) => [...good.map((text) => [name, text, true]), ...bad.map((text) => [name, text, false])]),
    ...flags.map((name) => [name, "", true]),
    ...violations.map((name) => ["invalid", name, true]),
  ];
  const judged = await visit.evaluate((cases) =>
    cases.map(([name, text]) => {
      const form = document.querySelector("#asked");
      form.reset();
      const field = form.elements[name];
      if (field.type === "checkbox") field.checked = true;
      else field.value = text;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      return [document.querySelector("#faulty").value, form.checkValidity()];
    }), cases);
  for (const [at, [name, text, verdict]] of cases.entries()) {
    const [url, isValid] = judged[at];
    const value = text && `=${encodeURIComponent(text)}`;
    assert.equal(url, `${websocketUrl}/echo?${name}${value}`);
    assert.equal(isValid, verdict, `the page on ${url}`);
    assert.equal(await statusOf(url.slice(websocketUrl.length)), verdict ? 101 : 400, `the server on ${url}`);
  }
  await visit.click("#asked [type=reset]");
  await visit.check("#asked [name=text]");
  await visit.check("#asked [name=binary]");
  assert.equal(await value(visit, "#faulty"), `${websocketUrl}/echo?binary`);
});

visiting("faults: the chosen faults happen", async (visit) => {
  await visit.click("#examples button:has-text('close=4000')");
  assert.equal(await value(visit, "#faulty"), `${websocketUrl}/echo?close=4000&reason=bye&close_after=3`);
  await visit.click("#asked button.main");
  await visit.waitForSelector('#state[data-state="1"]');
  for (let count = 0; count < 3; count++) await visit.click("#send");
  await row(visit, "close", "4000 application code “bye”");
  await visit.click("#examples button:has-text('invalid=masked')");
  await visit.click("#asked button.main");
  await visit.waitForSelector('#state[data-state="1"]');
  await visit.click("#send");
  await row(visit, "close", "1006");
  await visit.fill("#asked [name=delay]", "60001");
  await visit.click("#asked button.main"); // the browser shows the reason
  assert.ok(await visit.locator("#asked [name=delay]:invalid").count());
  assert.equal((await rows(visit)).filter(({ event }) => event === "open").length, 2);
}, { expected: /A server must not mask any frames/ });

for (const [transports, name, upgrades] of [["polling websocket", "websocket", 1], ["websocket", "websocket", 0], ["polling", "polling", 0]]) {
  visiting(`Socket.IO by ${transports}: events, arguments and acks`, async (visit) => {
    const happened = (event, text) => row(visit, event, text, "#sessionLog");
    await visit.check(`[name=transport][value="${transports}"]`, { force: true });
    await visit.click("#sessionOpen");
    await happened("response", '[{"data":"连接成功"}]');
    if (upgrades) await happened("upgrade", "websocket");
    await visit.locator("#transport", { hasText: name }).waitFor();
    assert.match(await value(visit, "#sid"), /^[\w-]{16,}$/);
    await visit.click("#emit");
    await happened("response", '[{"data":"收到: hi"}]');

    await visit.check("#ask");
    await visit.fill("#event", "echo");
    await visit.fill("#args", '["a", {"b": [1, null]}]');
    await visit.press("#args", "Control+Enter");
    await happened("echo", '["a",{"b":[1,null]}]');
    await happened("ack echo", '["a"]');
    // The server asks the client a question and broadcasts the answer.
    await visit.fill("#answer", '["of course", 1]');
    await visit.click("#events button:text-is('ask')");
    await visit.click("#emit");
    await happened("question", '["really?"]');
    await happened("answer", '[["of course",1]]');
    await visit.fill("#args", '{"not": "an array"}');
    await visit.click("#emit");
    await visit.locator("#emitter .problem", { hasText: "must be a JSON array" }).waitFor();
    const outgoing = (await rows(visit, "#sessionLog")).filter(({ direction }) => direction === "out");
    assert.deepEqual(outgoing.map(({ event, data }) => `${event} ${data}`), ['message ["hi"]', 'echo ["a",{"b":[1,null]}]', 'ask ["really?"]']);

    await visit.uncheck("#ask");
    await visit.click("#events button:text-is('bye')");
    await visit.click("#emit");
    await happened("disconnect", "io server disconnect");
    await visit.click("#sessionOpen");
    await visit.waitForSelector('#sessionState[data-state="1"]');
    await visit.locator("#transport", { hasText: name }).waitFor();
    await visit.click("#sessionClose");
    await happened("disconnect", "io client disconnect");
    assert.equal(visit.requests.filter((url) => url.endsWith("/socket.io/socket.io.js")).length, 1);
    // A disconnected client polls again and closes at once. If its close arrives first, the poll
    // belongs to an ended session.
  }, { expected: name === "polling" ? /status of 400/ : undefined });
}

visiting("Socket.IO: namespaces, auth and refusals", async (visit) => {
  const happened = (event, text) => row(visit, event, text, "#sessionLog");
  await visit.check("[name=transport][value=websocket]", { force: true });
  await visit.fill("#namespace", "ns");
  await visit.fill("#auth", '{"token": "bad"}');
  await visit.click("#sessionOpen");
  await happened("error", "unauthorized");
  await visit.fill("#auth", "{");
  await visit.click("#sessionOpen");
  await visit.locator("#session .problem", { hasText: "invalid JSON" }).waitFor();
  await visit.fill("#auth", "");
  await visit.click("#sessionOpen");
  await happened("response", '[{"data":"ns"}]');
  await visit.click("#sessionClose");
  await visit.fill("#namespace", "/nope");
  await visit.click("#sessionOpen");
  await happened("error", "Invalid namespace");
  await visit.locator("#sessionOpen:enabled").waitFor();
  await visit.click("#emit");
  await visit.locator("#emitter .problem", { hasText: "not connected" }).waitFor();
});

test("the page of a server without chat, faults or Socket.IO hides them", { timeout: 180_000 }, async () => {
  const visit = await browser.newPage(wide);
  const body = (await (await fetch(address, { headers: { Accept: "text/html" } })).text()).replace(/<section id="(chat|faults|socketio)"/g, "$& hidden");
  await visit.setContent(body);
  for (const id of ["chat", "faults", "socketio"]) {
    for (const selector of [`#${id}`, `nav [href="#${id}"]`]) assert.ok(await visit.locator(selector).isHidden(), selector);
  }
  assert.ok(await visit.locator('nav [href="#code"]').isVisible());
  await visit.close();
});

for (const [name, options] of Object.entries({
  light: wide,
  dark: { ...wide, colorScheme: "dark" },
  "light-360": { ...wide, viewport: { width: 360, height: 740 } },
  "dark-chinese-360": { viewport: { width: 360, height: 740 }, locale: "zh-CN", colorScheme: "dark" },
})) {
  visiting(`looks: ${name}`, async (visit) => {
    await connect(visit, "/ws");
    await visit.click("#send");
    await row(visit, "message", "Echo: Hello Server");
    await visit.click("#disconnect");
    await row(visit, "close", "1000");
    await connect(visit, "/echo");
    await visit.evaluate(() => {
      send(JSON.stringify({ order: 7, items: ["tea", "milk"] }));
      send(new TextEncoder().encode("bytes, 16 a line, with text").buffer);
    });
    await (await row(visit, "message", "order")).locator("summary").click();
    await (await row(visit, "message", "B bin")).locator("summary").click();
    await visit.fill("#every", "10");
    await visit.click("#repeat");
    await visit.waitForFunction(() => document.querySelector("#echoes").textContent === "103");
    await visit.locator("#log .rows").evaluate((list) => (list.scrollTop = 0));
    await visit.click("#join");
    for (const pane of [0, 1]) await visit.locator(".pane").nth(pane).locator(".note").waitFor();
    await visit.locator(".pane input").first().fill("hello");
    await visit.locator(".pane button").first().click();
    await visit.locator(".pane").last().locator("p", { hasText: "says: hello" }).waitFor();
    await visit.click("#examples button:nth-child(2)");
    await visit.click("#sessionOpen");
    await row(visit, "upgrade", "", "#sessionLog");
    await visit.click("#emit");
    await row(visit, "response", "hi", "#sessionLog");

    const wider = await visit.evaluate(() => [...document.querySelectorAll("main *")].filter((element) => !element.closest(".rows, pre, nav") && element.getBoundingClientRect().right > innerWidth).map((element) => element.outerHTML.slice(0, 100)));
    assert.deepEqual(wider, []);
    const cut = await visit.locator("#log .event").evaluateAll((events) => events.filter((event) => event.scrollWidth > event.clientWidth).map((event) => event.textContent));
    assert.deepEqual(cut, []);
    await visit.evaluate(axe);
    const { passes, violations } = await visit.evaluate(() => axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]), []);
    assert.ok(passes.find(({ id }) => id === "color-contrast").nodes.length > 50);
    const ground = await visit.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(Number(ground.match(/\d+/)[0]) > 128, options.colorScheme === "light", ground);
    assert.equal(await visit.evaluate(() => document.documentElement.lang), options.locale.slice(0, 2));
    if (options.locale === "zh-CN") assert.deepEqual(await untranslated(visit), []);
    await visit.locator("header").evaluate((header) => (header.style.position = "static"));
    await visit.screenshot({ path: `${screenshots}${name}.png`, fullPage: true });
  }, { options });
}

/** English words, except names, that a Chinese visitor sees or hears. */
function untranslated(visit) {
  return visit.evaluate(() => {
    const names = /frameloop|WebSocket|Socket\.IO|JSONL?|Base64|JavaScript|Python|Rust|websocat|curl|permessage-deflate|URL|RST|Ping|Sec-WebSocket-Accept|UTF-8|FIN|RSV\d|bytes?, |close_after|\/echo|text|binary|polling|websocket|auth|Ctrl Enter/g;
    const terms = "code, pre, .mono, .chip, .rows, .talk, #faulty, .facts, #room, h3, option, .range, .parameter";
    const found = [];
    const judge = (text) => /[A-Za-z]{3}/.test(text.replace(names, "")) && found.push(text.trim());
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const { parentElement, data } = walker.currentNode;
      if (!parentElement.closest(`${terms}, script, textarea`)) judge(data);
    }
    for (const name of ["placeholder", "aria-label", "title"]) {
      for (const element of document.querySelectorAll(`[${name}]`)) if (!element.closest(".rows") && element.id !== "auth") judge(element.getAttribute(name));
    }
    for (const element of document.querySelectorAll(".parameter small")) judge(element.textContent);
    return found;
  });
}
