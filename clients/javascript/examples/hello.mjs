// Open a session, say something, read it back, leave.    node examples/hello.mjs

import { connect } from "../src/index.js";
import { GATEWAY, WebSocket, getToken } from "./sign-in.mjs";

const client = connect(`${GATEWAY}/ws`, { WebSocket, getToken: () => getToken("alice") });
client.on("error", (error) => console.error(error.message));
const session = await client.open({ title: "Hello", ttl: 600 });
console.log(`session ${session.id}, open to ${client.user}`);

session.on("message", ({ seq, sender, content }) => console.log(`${seq} ${sender}: ${content}`));
const { seq } = await session.send("hello");
console.log(`committed as ${seq}`);

const { messages } = await session.history();
console.log(`the history has ${messages.length}`);

await session.close();
client.close();
