// ws, the WebSocket server of Node: echo, or fan-out to all. Compresses messages of every size.

import { createRequire } from "node:module";
import path from "node:path";

const [modules, duty] = process.argv.slice(2);
const { WebSocketServer } = createRequire(path.join(modules, "package.json"))("ws");
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: { threshold: 0 } });
server.on("connection", (socket) => {
  socket.on("message", (data, binary) => {
    if (duty === "echo") socket.send(data, { binary });
    else for (const client of server.clients) client.send(data, { binary });
  });
});
server.on("listening", () => console.log(`serves on http://127.0.0.1:${server.address().port}`));
