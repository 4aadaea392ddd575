// A client in JavaScript that talks in one session, and tells on stdout what it noticed: one JSON object a line.
// node mover.mjs <ws url> <token> <session>; it ends when its stdin does, with everything answered.

import { createRequire } from "node:module";

import { connect } from "../../clients/javascript/src/index.js";

const EVERY_MS = 20;

const require = createRequire(new URL("../../clients/javascript/package.json", import.meta.url));
const [url, token, id] = process.argv.slice(2);
const tell = (what) => console.log(JSON.stringify(what));

const client = connect(url, { WebSocket: require("ws"), token });
client.on("state", ({ name }) => tell({ state: name }));
client.on("error", (error) => tell({ error: String(error.message) }));
const session = client.attach(id, { since: 0 });
session.on("message", ({ seq }) => tell({ seq }));
session.on("signal", ({ data }) => tell({ signal: data.n }));
session.on("presence", ({ event, user }) => tell({ event, user }));
await session.ready;
tell({ ready: client.connection });

const said = [];
const talking = setInterval(() => {
  const begun = performance.now();
  said.push(
    session.send(`${id} ${said.length}`).then(
      ({ seq }) => tell({ ack: seq, ms: performance.now() - begun }),
      (error) => tell({ error: String(error.message) }),
    ),
  );
}, EVERY_MS);

process.stdin.on("end", async () => {
  clearInterval(talking);
  await Promise.all(said);
  tell({ said: said.length, connection: client.connection });
  client.close();
});
process.stdin.resume();
