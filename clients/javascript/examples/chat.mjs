// Chat from the terminal.    node examples/chat.mjs alice            makes a session and prints its id
//                            node examples/chat.mjs alice <session>  joins it (its owner must have made you a member)
// Stop the gateway and start it again while you write: nothing is lost.

import { createInterface } from "node:readline";
import { connect } from "../src/index.js";
import { GATEWAY, WebSocket, getToken } from "./sign-in.mjs";

const [user = "alice", sessionId] = process.argv.slice(2);
const client = connect(`${GATEWAY}/ws`, { WebSocket, getToken: () => getToken(user) });

client.on("state", (state) => {
  const when = state.retryAt ? `, next try in ${Math.ceil((state.retryAt - Date.now()) / 1000)} s` : "";
  console.log(`— ${state.name}${when}${state.why ? `: ${state.why}` : ""}`);
});

client.on("error", (error) => console.log(`— ${error.message}`));

const session = sessionId ? client.attach(sessionId, { since: 0 }) : await client.open({ title: `${user}'s talk` });
console.log(`— session ${session.id}`);
session.on("message", ({ sender, content }) => console.log(`${sender}: ${content}`));
session.on("presence", ({ user: who, event }) => console.log(`— ${who} ${event}s`));
session.on("ended", (error) => {
  console.log(`— over: ${error.message}`);
  process.exit();
});

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  session.send(line).catch((error) => console.log(`— not sent: ${error.message}`));
});
lines.on("close", () => client.close());
