// The same model of the gateway behind real sockets: what `ws` does differently from the tests' own sockets shows here.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connect } from "../src/index.js";
import { ModelGateway } from "./world/gateway.js";
import { record } from "./world/world.js";

const ws = await import("ws").catch(() => null);
const options = { skip: ws === null && "ws is not installed: npm ci", timeout: 20_000 };

const gateway = new ModelGateway();
const sockets = new Set();
let server;
let url;

before(async () => {
  if (ws === null) {
    return;
  }
  server = new ws.WebSocketServer({ host: "127.0.0.1", port: 0, handleProtocols: () => "session.v1" });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.deliver = (frame) => socket.send(JSON.stringify(frame));
    socket.on("message", (data) => gateway.received(socket, JSON.parse(data)));
    socket.on("close", () => {
      sockets.delete(socket);
      gateway.left(socket);
    });
  });
  await new Promise((resolve) => {
    server.once("listening", resolve);
  });
  url = `ws://127.0.0.1:${server.address().port}/ws`;
});

after(() => {
  sockets.forEach((socket) => socket.terminate());
  server?.close();
});

function client(more = {}) {
  const surroundings = { random: () => Math.random() / 20 };
  return connect(url, { token: "t", WebSocket: ws.WebSocket, surroundings, ...more });
}

async function until(condition, what) {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `not in time: ${what}`);
    await new Promise((resolve) => {
      setTimeout(resolve, 5);
    });
  }
}

test("two clients talk while their sockets are cut: each message once, in order, at both", options, async () => {
  gateway.session("talk");
  const [ann, ben] = [client(), client()];
  const sessions = [ann, ben].map((each) => each.attach("talk", { since: 0 }));
  const seen = sessions.map(record);
  const sendings = [];
  for (let round = 0; round < 10; round += 1) {
    for (let n = 0; n < 10; n += 1) {
      sendings.push(sessions[n % 2].send(`${round}.${n}`));
    }
    await sendings.at(-10);
    sockets.forEach((socket) => socket.terminate());
  }
  const acks = await Promise.all(sendings);
  await until(() => seen.every(({ seqs }) => seqs.length === 100), "100 messages at both");
  const expected = Array.from({ length: 100 }, (_, n) => n + 1);
  assert.deepEqual(seen.map(({ seqs }) => seqs), [expected, expected]);
  assert.deepEqual(acks.map(({ seq }) => seq).sort((a, b) => a - b), expected);
  ann.close();
  ben.close();
});

test("a client moves while messages arrive", options, async () => {
  gateway.session("move");
  const reader = client();
  const session = reader.attach("move", { since: 0 });
  const seen = record(session);
  await session.ready;
  const states = [];
  reader.on("state", ({ name }) => states.push(name));
  const [first] = sockets;
  first.deliver({ type: "migrate", slot_ms: 20, deadline_ms: 5000, url: null, reason: "drain" });
  let posted = 0;
  const posting = setInterval(() => {
    posted += 1;
    gateway.post("move", `m${posted}`);
  }, 1);
  await until(() => !sockets.has(first) && sockets.size === 1, "the first socket is closed");
  clearInterval(posting);
  await until(() => seen.seqs.length === posted, "all messages");
  assert.deepEqual(seen.seqs, Array.from({ length: posted }, (_, n) => n + 1));
  assert.deepEqual(states, []);
  reader.close();
});

test("nobody there: it keeps trying, and says so", options, async () => {
  const nobody = connect("ws://127.0.0.1:9/ws", { WebSocket: ws.WebSocket, surroundings: { random: () => 0.01 } });
  const attempts = new Set();
  nobody.on("state", (state) => attempts.add(state.attempt));
  await until(() => attempts.has(4), "four attempts");
  nobody.close();
  assert.equal(nobody.state.name, "closed");
});
