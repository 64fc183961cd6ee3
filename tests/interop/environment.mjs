// Where the server under test and the installed npm packages are; `run` sets both variables.

import { createRequire } from "node:module";
import path from "node:path";

const { FRAMELOOP_URL, FRAMELOOP_TAKEOVER_URL, INTEROP_CACHE } = process.env;
if (!FRAMELOOP_URL) throw new Error("FRAMELOOP_URL is not set: start this through tests/interop/run");

export const serverUrl = FRAMELOOP_URL.replace(/\/$/, "");
export const websocketUrl = serverUrl.replace(/^http/, "ws");
/** A server with context takeover in both directions, if it is set. */
export const takeoverUrl = FRAMELOOP_TAKEOVER_URL?.replace(/\/$/, "").replace(/^http/, "ws");
export const require = createRequire(path.join(INTEROP_CACHE ?? ".", "package.json"));
