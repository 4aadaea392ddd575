// Follow a session from its beginning with an async iterator, as a bot would.    node examples/follow.mjs bob <session>

import { connect } from "../src/index.js";
import { GATEWAY, WebSocket, getToken } from "./sign-in.mjs";

const [user, sessionId] = process.argv.slice(2);
const client = connect(`${GATEWAY}/ws`, { WebSocket, getToken: () => getToken(user) });
const session = client.attach(sessionId, { since: 0 });
const messages = session.messages();

await session.ready;
for await (const message of messages) {
  session.read(message.seq);
  if (message.sender !== client.user && message.content.startsWith("!echo ")) {
    await session.send(message.content.slice(6), { role: "assistant" });
  }
}
client.close();
