// Node's `ws`, as it is meant to be used: node ws.mjs PORT echo|fanout. The package is the JavaScript client's.
import { createRequire } from "node:module";

const { WebSocketServer } = createRequire(new URL("../../clients/javascript/package.json", import.meta.url))("ws");
const [port, mode] = process.argv.slice(2);
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port), path: "/ws", backlog: 4096, perMessageDeflate: false });
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => {
    if (mode === "echo") socket.send(data, { binary: isBinary });
    else for (const member of server.clients) member.send(data, { binary: isBinary });
  });
});
