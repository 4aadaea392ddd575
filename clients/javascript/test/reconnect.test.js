import assert from "node:assert/strict";
import { test } from "node:test";
import { GatewayError } from "../src/index.js";
import { World, outcome, settle } from "./world/world.js";

test("it connects at once, says hello with its credential and is online after the welcome", async () => {
  const world = new World();
  const client = world.connect({ client: { name: "page", version: "2.0" } });
  assert.equal(client.state.name, "connecting");
  await client.ready();
  assert.deepEqual(world.socket.protocols, ["session.v1"]);
  assert.equal(world.socket.url, "wss://gateway.example/ws");
  assert.deepEqual(world.socket.hello, {
    type: "hello", token: "token-1", client: { name: "page", version: "2.0" }, attach: [],
  });
  assert.equal(client.user, "alice");
  assert.equal(client.connection, "connection-1");
  assert.equal(client.limits.message_bytes, 65_536);
});

test("a lost connection is tried again within 250 ms, and later ones with full jitter", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  await world.clock.advance(11_000);
  world.network.opened = (refused) => refused.end();
  const waits = [];
  client.on("state", (state) => {
    if (state.name === "reconnecting" && state.retryAt !== null) {
      waits.push(state.retryAt - world.clock.now);
    }
  });
  socket.end();
  await world.clock.advance(60_000);
  assert.deepEqual(waits.slice(0, 8), [125, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  assert.equal(client.state.attempt, waits.length);
});

test("a connection that does not last 10 s does not count as a success", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  socket.end();
  await world.clock.advance(200);
  await world.clock.advance(9000);
  world.socket.end();
  assert.equal(client.state.retryAt - world.clock.now, 500);
  await world.clock.advance(600);
  await world.clock.advance(10_001);
  world.socket.end();
  assert.equal(client.state.retryAt - world.clock.now, 125);
});

test("4005 waits longer, and not even a look at the page shortens it", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  socket.end(4005);
  assert.equal(client.state.retryAt - world.clock.now, 3000);
  world.show("visible");
  await world.clock.advance(2900);
  assert.equal(world.network.sockets.length, 1);
  await world.clock.advance(200);
  assert.equal(client.state.name, "online");
});

test("1011 has no quick first try", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  socket.end(1011);
  assert.equal(client.state.retryAt - world.clock.now, 500);
});

test("retry_after_ms of the error before a close is obeyed", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  socket.deliver({ type: "error", code: "unavailable", message: "later", retryable: true, retry_after_ms: 7000 });
  socket.end(4000);
  client.reconnect();
  await world.clock.advance(6900);
  assert.equal(world.network.sockets.length, 1);
  await world.clock.advance(400);
  assert.equal(client.state.name, "online");
});

test("who is put off comes when it was told, with its resume token, and not later", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  let putOff = 0;
  world.gateway.intercept = (from, frame) => {
    if (frame.type !== "hello" || putOff === 3) {
      return false;
    }
    putOff += 1;
    assert.equal(frame.resume, "resume-1");
    from.deliver({ type: "error", code: "unavailable", message: "", retryable: true, retry_after_ms: 700 });
    from.end(4005, "many others are coming back");
    return true;
  };
  socket.end();
  await world.clock.advance(130);
  for (let n = 1; n <= 3; n += 1) {
    // 4005 by itself would be 3, 6, 12 s.
    assert.equal(client.state.retryAt - world.clock.now, 825 - (n === 1 ? 5 : 0));
    world.show("visible");
    await world.clock.advance(n === 1 ? 820 : 825);
  }
  assert.equal(client.state.name, "online");
  assert.equal(putOff, 3);
});

test("a gateway that accepts and says nothing is given up after 10 s", async () => {
  const world = new World();
  world.gateway.intercept = (_socket, frame) => frame.type === "hello";
  const client = world.connect();
  await world.clock.advance(10_001);
  assert.equal(client.state.name, "reconnecting");
  world.gateway.intercept = () => false;
  await world.clock.advance(1000);
  assert.equal(client.state.name, "online");
});

test("the token provider is asked before every connection; its failures are waited out", async () => {
  const world = new World();
  let calls = 0;
  const client = world.connect({
    token: undefined,
    getToken: async () => {
      calls += 1;
      if (calls === 2 || calls === 3) {
        throw new Error("the login service is away");
      }
      return `token-${calls}`;
    },
  });
  const errors = [];
  client.on("error", (error) => errors.push(error.message));
  await settle();
  assert.equal(world.socket.hello.token, "token-1");
  world.socket.end(4004);
  await world.clock.advance(200);
  assert.deepEqual(errors, ["no token: the login service is away"]);
  assert.equal(client.state.name, "reconnecting");
  await world.clock.advance(3000);
  assert.equal(errors.length, 1);
  assert.equal(world.socket.hello.token, "token-4");
  assert.equal(client.state.name, "online");
});

test("a provider that says no for good closes the client", async () => {
  const world = new World();
  const client = world.connect({ getToken: () => Promise.reject(new GatewayError("unauthenticated", "signed out")) });
  await assert.rejects(client.ready(), { code: "unauthenticated" });
  assert.equal(world.network.sockets.length, 0);
  assert.equal(client.state.reason, "signed out");
});

test("a provider that never answers is given up after 30 s", async () => {
  const world = new World();
  const client = world.connect({ getToken: () => new Promise(() => {}) });
  await world.clock.advance(30_001);
  assert.equal(client.state.name, "reconnecting");
});

test("a ticket goes into the hello in the token's place", async () => {
  const world = new World();
  world.connect({ token: undefined, getTicket: () => "ticket-1" });
  await settle();
  assert.equal(world.socket.hello.ticket, "ticket-1");
  assert.equal("token" in world.socket.hello, false);
});

test("a WebSocket that cannot be made is waited out like any failure", async () => {
  const world = new World();
  let fails = true;
  const { WebSocket } = world.network;
  const client = world.connect({
    WebSocket: class extends WebSocket {
      constructor(...args) {
        if (fails) {
          throw new Error("no socket today");
        }
        super(...args);
      }
    },
  });
  await settle();
  assert.equal(client.state.name, "reconnecting");
  fails = false;
  await world.clock.advance(300);
  assert.equal(client.state.name, "online");
});

test("a frame that cannot be read is answered with a fresh start", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  socket.deliver("{not json");
  assert.deepEqual(socket.closedWith.code, 4003);
  await world.clock.advance(200);
  assert.equal(client.state.name, "online");
});

test("binary frames and frames of unknown type are ignored", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  socket.onmessage({ data: new ArrayBuffer(20) });
  socket.deliver({ type: "stream.opened", session: "s1" });
  socket.deliver({ type: "toString" });
  assert.equal(client.state.name, "online");
});

test("close() says 1000, leaves no timer and no listener, and is final", async () => {
  const world = new World();
  const { client, session, seen, socket } = await world.online();
  const sending = session.send("too late");
  const asked = assert.rejects(session.history(), { code: "closed" });
  socket.isDeaf = true;
  client.close();
  assert.equal(socket.closedWith.code, 1000);
  assert.equal(client.state.name, "closed");
  assert.equal((await outcome(sending)).error.code, "closed");
  await asked;
  assert.equal(seen.ended.length, 1);
  assert.equal(world.clock.pending, 0);
  assert.equal(world.document.listenerCount + world.window.listenerCount, 0);
  client.reconnect();
  client.close();
  await world.clock.advance(60_000);
  assert.equal(world.network.sockets.length, 1);
  assert.throws(() => client.attach("s2"), { code: "closed" });
  assert.equal((await outcome(session.send("later still"))).error.code, "closed");
});

test("close() while a token is being fetched opens nothing", async () => {
  const world = new World();
  const client = world.connect({ getToken: async () => "t" });
  client.close();
  await settle();
  assert.equal(world.network.sockets.length, 0);
});

test("http addresses and http pages become ws", async () => {
  const world = new World();
  const { connect } = await import("../src/index.js");
  const client = connect("https://gateway.example/ws#here", { WebSocket: world.network.WebSocket });
  await settle();
  assert.equal(world.socket.url, "wss://gateway.example/ws");
  client.close();
});

test("without any WebSocket it says so", async (t) => {
  const { connect } = await import("../src/index.js");
  const given = Object.getOwnPropertyDescriptor(globalThis, "WebSocket");
  t.after(() => given && Object.defineProperty(globalThis, "WebSocket", given));
  delete globalThis.WebSocket;
  assert.throws(() => connect("ws://gateway.example/ws"), { code: "unsupported" });
});

test("a listener that throws costs neither the other listeners nor the client anything", async (t) => {
  const world = new World();
  const { session, seen } = await world.online();
  const thrown = [];
  const { queueMicrotask } = globalThis;
  globalThis.queueMicrotask = (task) => queueMicrotask(() => {
    try {
      task();
    } catch (error) {
      thrown.push(error.message); // in a page: window.onerror
    }
  });
  t.after(() => {
    globalThis.queueMicrotask = queueMicrotask;
  });
  session.once("message", () => {
    throw new Error("a bug of the page");
  });
  session.on("message", (message) => thrown.push(message.content));
  world.gateway.post("s1", "hello");
  await settle();
  assert.deepEqual(seen.seqs, [1]);
  assert.deepEqual(thrown, ["hello", "a bug of the page"]);
});
