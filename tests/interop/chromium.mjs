// Chromium's WebSocket in a page of another origin than the server's.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import test, { after, before } from "node:test";

import { require, takeoverUrl, websocketUrl } from "./environment.mjs";
import { cases, takeoverCases } from "./web_cases.mjs";

const { chromium } = require("playwright-core");
const timeout = 60_000;

// The tutorial's client, unchanged except for the port.
const TUTORIAL = `
const ws = new WebSocket('ws://localhost:8000/ws');
ws.onopen = () => {
  console.log('连接已建立');
  ws.send('Hello Server');
};
ws.onmessage = (event) => {
  console.log('收到消息:', event.data);
};
ws.onerror = (error) => {
  console.error('连接错误:', error);
};
ws.onclose = (event) => {
  console.log('连接关闭', event.code, event.wasClean);
};
`;

let origin;
let browser;
let page;

before(async () => {
  origin = createServer(async (request, response) => {
    if (request.url.endsWith(".mjs")) {
      response.setHeader("Content-Type", "text/javascript");
      response.end(await readFile(new URL(`.${request.url}`, import.meta.url)));
    } else {
      response.setHeader("Content-Type", "text/html; charset=utf-8");
      response.end("<!doctype html><title>another origin</title>");
    }
  }).listen(0, "127.0.0.1");
  await once(origin, "listening");
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${origin.address().port}/`);
});

after(async () => {
  await browser?.close();
  origin?.close();
});

test("J1: the tutorial's client", { timeout }, async () => {
  const { host, hostname, port } = new URL(websocketUrl);
  const address = hostname === "127.0.0.1" ? `localhost:${port}` : host;
  const logged = (text) => page.waitForEvent("console", (message) => message.text().startsWith(text));

  const opened = logged("连接已建立");
  const echoed = logged("收到消息:");
  await page.addScriptTag({ content: TUTORIAL.replace("localhost:8000", address) });
  await opened;
  assert.equal((await echoed).text(), "收到消息: Echo: Hello Server");

  const closed = logged("连接关闭");
  await page.evaluate("ws.close()");
  assert.match((await closed).text(), /^连接关闭 (1000|1005) true$/);
});

for (const [group, url] of [
  ["cases", websocketUrl],
  ["takeoverCases", takeoverUrl],
]) {
  for (const name of Object.keys({ cases, takeoverCases }[group])) {
    test(`${group}: ${name}`, { timeout, skip: !url && "the second server is not set" }, async () => {
      await page.evaluate(
        async ([group, name, server]) => {
          const groups = await import("/web_cases.mjs");
          await groups[group][name](server);
        },
        [group, name, url],
      );
    });
  }
}
