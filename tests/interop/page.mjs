// The page at /, in Chromium: every visitor's first minutes. Screenshots go to target/page.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import test, { after, before } from "node:test";

import { require, websocketUrl } from "./environment.mjs";

const { chromium } = require("playwright-core");
const page = new URL("/", websocketUrl.replace(/^ws/, "http")).href;
const screenshots = fileURLToPath(new URL("../../target/page/", import.meta.url));
let browser;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
});

after(() => browser?.close());

for (const [name, options] of Object.entries({
  light: { viewport: { width: 1200, height: 900 }, locale: "en-GB", colorScheme: "light" },
  "dark-chinese-360": { viewport: { width: 360, height: 740 }, locale: "zh-CN", colorScheme: "dark" },
})) {
  test(`J5 to J8: ${name}`, { timeout: 60_000 }, async () => {
    const visit = await browser.newPage(options);
    const complaints = [];
    const requests = [];
    visit.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    visit.on("pageerror", (error) => complaints.push(String(error)));
    visit.on("request", (request) => requests.push(request.url()));
    const logs = (text) =>
      visit.waitForFunction((text) => document.querySelector("#log").textContent.includes(text), text);

    await visit.goto(page);
    await visit.click("#connect");
    await visit.waitForSelector('#state[data-state="1"]');
    await visit.click("#send");
    await logs("Echo: Hello Server");

    // J6: what is received is text, whatever it looks like.
    await visit.fill("#message", "<img src=x onerror=alert(1)>");
    await visit.press("#message", "Control+Enter");
    await logs("Echo: <img");
    assert.equal(await visit.locator("#log img").count(), 0);

    await visit.click("#join");
    await visit.waitForFunction(() =>
      [...document.querySelectorAll(".pane")].every((pane) => pane.textContent.includes("●")),
    );
    await visit.fill('.pane[data-n="1"] input', "hello");
    await visit.press('.pane[data-n="1"] input', "Enter");
    await visit.waitForFunction(() =>
      document.querySelector('.pane[data-n="2"]').textContent.includes("Client 1 says: hello"),
    );

    // J7: 10,000 messages leave 1,000 rows.
    await visit.evaluate(() => {
      for (let number = 0; number < 5_000; number++) post(`message ${number}`);
    });
    await logs("Echo: message 4999");
    assert.equal(await visit.locator("#log .entry").count(), 1_000);

    await visit.fill("#code", "3000");
    await visit.fill("#reason", "x");
    await visit.click("#disconnect");
    await logs("“x”");
    assert.ok((await visit.evaluate(() => document.documentElement.scrollWidth)) <= options.viewport.width);
    await visit.screenshot({ path: `${screenshots}${name}.png`, fullPage: true });
    assert.deepEqual(requests, [page]);
    assert.deepEqual(complaints, []);
    await visit.close();
  });
}
