// Node's global WebSocket, which Node 20 and 21 have behind --experimental-websocket.

import test from "node:test";

import { takeoverUrl, websocketUrl } from "./environment.mjs";
import { cases, takeoverCases } from "./web_cases.mjs";

/** The reason why this version of Node cannot run the case, if any. */
function reasonToSkip(name) {
  if (typeof WebSocket === "undefined") return `Node ${process.version} has no global WebSocket`;
  if (name.startsWith("J3:") && parseInt(process.versions.undici) < 7) {
    return "undici before 7 fires no close event when the opening handshake fails (nodejs/undici#3546)";
  }
  if (name.includes("16777216")) return "undici inflates messages of 4 MiB at most (CVE-2026-1526)";
  return false;
}

for (const [name, body] of Object.entries(cases)) {
  test(name, { skip: reasonToSkip(name), timeout: 60_000 }, () => body(websocketUrl));
}

for (const [name, body] of Object.entries(takeoverCases)) {
  const skip = reasonToSkip(name) || (!takeoverUrl && "the second server is not set");
  test(`with context takeover: ${name}`, { skip, timeout: 60_000 }, () => body(takeoverUrl));
}
