import assert from "node:assert/strict";
import { test } from "node:test";
import { target } from "../src/target.js";
import { World, settle } from "./world/world.js";

const migrate = (socket, more) =>
  socket.deliver({ type: "migrate", slot_ms: 1000, deadline_ms: 30_000, url: null, reason: "drain", ...more });

test("the second socket is live before the first is closed, and nothing is lost or doubled", async () => {
  const world = new World();
  const { client, session, seen, socket: first } = await world.online();
  world.gateway.post("s1", "one");
  migrate(first);
  await world.clock.advance(900);
  assert.equal(world.network.sockets.length, 1);
  await world.clock.advance(200);
  const second = world.socket;
  assert.equal(world.network.sockets.length, 2);
  assert.equal(second.hello.resume, "resume-1");
  assert.deepEqual(second.hello.attach, [{ session: "s1", since: 1 }]);
  assert.deepEqual(first.closedWith, { code: 1000, reason: "" });
  world.gateway.post("s1", "two");
  assert.deepEqual(seen.seqs, [1, 2]);
  assert.equal(session.live, true);
  assert.deepEqual(client.states, ["online"]);
});

test("while both deliver, each message is delivered once, whichever socket is first", async () => {
  const world = new World();
  const { seen, socket: first } = await world.online();
  const { on_attach: attach } = world.gateway;
  // The second socket hears everything but `live`: the overlap lasts.
  world.gateway.on_attach = function slow(socket, frame) {
    attach.call(this, { deliver: (each) => each.type !== "live" && socket.deliver(each) }, frame);
  };
  world.gateway.connections.get = (socket) =>
    [...world.gateway.connections].find(([known]) => known === socket)?.[1] ?? [...world.gateway.connections].at(-1)[1];
  migrate(first);
  await world.clock.advance(1100);
  const second = world.socket;
  for (let n = 1; n <= 10; n += 1) {
    world.gateway.post("s1", `m${n}`);
  }
  assert.equal(first.readyState, 1);
  assert.deepEqual(seen.seqs, Array.from({ length: 10 }, (_, n) => n + 1));
  second.deliver({ type: "signal", session: "s1", name: "typing", sender: "bob" });
  first.deliver({ type: "signal", session: "s1", name: "typing", sender: "bob" });
  assert.equal(seen.signal.length, 1);
  second.deliver({ type: "live", session: "s1", seq: 10 });
  assert.equal(first.closedWith.code, 1000);
});

test("a signal that the first socket has brought is no news when the second one brings it after the move", async () => {
  const world = new World();
  const { seen, socket: first } = await world.online();
  const typing = { type: "signal", session: "s1", name: "typing", sender: "bob" };
  migrate(first);
  await world.clock.advance(900);
  first.deliver(typing);
  assert.equal(seen.signal.length, 1);
  await world.clock.advance(200);
  assert.deepEqual(first.closedWith, { code: 1000, reason: "" });
  world.socket.deliver(typing);
  assert.equal(seen.signal.length, 1);
  world.socket.deliver(typing);
  assert.equal(seen.signal.length, 2, "bob goes on typing");
});

test("a request under way on the first socket gets its answer there", async () => {
  const world = new World();
  const { session, socket: first } = await world.online();
  const kept = [];
  world.gateway.intercept = (socket, frame) => frame.type === "history" && kept.push([socket, frame]) > 0;
  const asked = session.history();
  await settle();
  migrate(first);
  await world.clock.advance(2000);
  assert.equal(first.readyState, 1);
  const [[socket, frame]] = kept;
  assert.equal(socket, first);
  world.gateway.handle(socket, frame);
  assert.deepEqual((await asked).messages, []);
  assert.equal(first.closedWith.code, 1000);
});

test("unacked sends are sent again on the second, with their ids and in order", async () => {
  const world = new World();
  const { session, socket: first } = await world.online();
  world.gateway.loseAck = (socket) => socket === first;
  const sendings = ["a", "b"].map((content) => session.send(content));
  await settle();
  migrate(first);
  await world.clock.advance(1100);
  const acks = await Promise.all(sendings);
  assert.deepEqual(acks.map(({ seq, duplicate }) => [seq, duplicate]), [[1, true], [2, false]]);
  assert.deepEqual(world.gateway.session("s1").messages.map(({ content }) => content), ["a", "b"]);
});

test("a late refusal by the first does not count, a late ack does", async () => {
  const world = new World();
  const { session, socket: first } = await world.online();
  const kept = [];
  world.gateway.intercept = (_socket, frame) =>
    ["send", "history"].includes(frame.type) && kept.push(frame) > 0; // history holds the first socket open
  session.history().catch(() => {});
  const sending = session.send("a");
  migrate(first);
  await world.clock.advance(1100);
  assert.deepEqual(kept.map(({ type }) => type), ["history", "send", "send"]);
  first.deliver({ type: "error", id: kept[1].id, code: "forbidden", message: "", retryable: false });
  assert.equal(sending.entry.state, "sending");
  first.deliver({ type: "ack", id: kept[1].id, session: "s1", seq: 1, ts: 5, duplicate: false });
  assert.deepEqual(await sending, { seq: 1, ts: 5, duplicate: false });
});

test("the second socket goes where the gateway says", async () => {
  const world = new World();
  const { socket } = await world.online();
  migrate(socket, { url: "wss://n2.example/ws" });
  await world.clock.advance(1100);
  assert.equal(world.socket.url, "wss://n2.example/ws");
});

test("a named address that cannot be opened is tried once, then the known one, and nothing is lost", async () => {
  const world = new World();
  const { client, seen, socket: first } = await world.online();
  world.gateway.post("s1", "one");
  world.network.opened = (socket) => (socket.url === "wss://n2.example/ws" ? socket.end() : socket.accept());
  migrate(first, { url: "wss://n2.example/ws" });
  await world.clock.advance(1100);
  assert.equal(first.readyState, 1);
  world.gateway.post("s1", "two");
  await world.clock.advance(2000);
  assert.deepEqual(
    world.network.sockets.map(({ url }) => url),
    ["wss://gateway.example/ws", "wss://n2.example/ws", "wss://gateway.example/ws"],
  );
  assert.equal(first.closedWith.code, 1000);
  world.gateway.post("s1", "three");
  assert.deepEqual(seen.seqs, [1, 2, 3]);
  assert.deepEqual(client.states, ["online"]);
});

test("a named address that never answers does not keep the move from the known one", async () => {
  const world = new World();
  const { client, socket: first } = await world.online();
  world.network.opened = (socket) => socket.url !== "wss://n2.example/ws" && socket.accept();
  migrate(first, { url: "wss://n2.example/ws" });
  await world.clock.advance(12_500);
  assert.equal(world.socket.url, "wss://gateway.example/ws");
  assert.equal(first.closedWith.code, 1000);
  assert.deepEqual(client.states, ["online"]);
});

test("a named address that is not encrypted is not gone to by who came encrypted", async () => {
  const world = new World();
  const { socket } = await world.online();
  migrate(socket, { url: "ws://n2.example/ws" });
  await world.clock.advance(1100);
  assert.deepEqual([...new Set(world.network.sockets.map(({ url }) => url))], ["wss://gateway.example/ws"]);
  assert.equal(socket.closedWith.code, 1000);
});

test("after a move the address to reconnect to is the known one", async () => {
  const world = new World();
  const { socket } = await world.online();
  migrate(socket, { url: "wss://n2.example/ws" });
  await world.clock.advance(1100);
  world.socket.end();
  await world.clock.advance(1000);
  assert.equal(world.socket.url, "wss://gateway.example/ws");
});

test("the credential goes to no address that is not a socket's, and from wss to wss only", () => {
  const known = "wss://a/ws";
  for (const named of [null, undefined, 7, "", "ws://b/ws", "http://b/ws", "https://b/ws", "/ws", "//b/ws", "b", "wss://u:p@b/ws"]) {
    assert.equal(target(known, named), known);
  }
  assert.equal(target("https://a/ws", "ws://b/ws"), "https://a/ws");
  assert.equal(target(known, "wss://b/ws"), "wss://b/ws");
  assert.equal(target("ws://a/ws", "ws://b/ws"), "ws://b/ws");
  assert.equal(target("ws://a/ws", "http://b/ws"), "ws://a/ws");
});

test("a second socket that fails is tried again while the first serves on", async () => {
  const world = new World();
  const { client, socket: first } = await world.online();
  let failures = 3;
  world.network.opened = (socket) => (failures-- > 0 ? socket.end() : socket.accept());
  migrate(first);
  await world.clock.advance(1100);
  assert.equal(client.state.name, "online");
  assert.equal(first.readyState, 1);
  await world.clock.advance(2000);
  assert.equal(world.network.sockets.length, 5);
  assert.equal(first.closedWith.code, 1000);
  assert.deepEqual(client.states, ["online"]);
});

test("a second socket that is put off comes again when it was told", async () => {
  const world = new World();
  const { client, socket: first } = await world.online();
  let putOff = 0;
  world.gateway.intercept = (from, frame) => {
    if (frame.type !== "hello" || putOff === 1) {
      return false;
    }
    putOff += 1;
    from.deliver({ type: "error", code: "unavailable", message: "", retryable: true, retry_after_ms: 4000 });
    from.end(4005);
    return true;
  };
  migrate(first);
  await world.clock.advance(1000 + 3900);
  assert.equal(world.network.sockets.length, 2);
  await world.clock.advance(700);
  assert.equal(world.network.sockets.length, 3);
  assert.equal(first.closedWith.code, 1000);
  assert.deepEqual(client.states, ["online"]);
});

test("no second socket before the deadline: plain resume", async () => {
  const world = new World();
  const { client, seen, socket: first } = await world.online();
  world.gateway.post("s1", "one");
  world.network.opened = (socket) => socket.end();
  migrate(first);
  await world.clock.advance(30_001);
  assert.notEqual(client.state.name, "online");
  assert.equal(first.readyState, 3);
  world.network.opened = (socket) => socket.accept();
  world.gateway.post("s1", "two");
  await world.clock.advance(5000);
  assert.equal(client.state.name, "online");
  assert.deepEqual(seen.seqs, [1, 2]);
});

test("a first socket closed with 4000 while the second opens: the second is the resume", async () => {
  const world = new World();
  const { client, seen, socket: first } = await world.online();
  const held = [];
  world.network.opened = (socket) => held.push(socket);
  migrate(first);
  await world.clock.advance(1100);
  first.end(4000);
  assert.deepEqual(client.states, ["online", "reconnecting"]);
  assert.equal(client.state.retryAt, null);
  await world.clock.advance(2000);
  world.gateway.post("s1", "one");
  held[0].accept();
  await settle();
  assert.equal(client.state.name, "online");
  assert.deepEqual(seen.seqs, [1]);
  assert.equal(world.network.sockets.length, 2);
});

test("a first socket closed for good while the second opens closes the client", async () => {
  const world = new World();
  const { client, socket: first } = await world.online();
  world.network.opened = () => {};
  migrate(first);
  await world.clock.advance(1100);
  first.end(4504);
  assert.equal(client.state.name, "closed");
  assert.equal(world.socket.readyState, 3);
  assert.equal(world.clock.pending, 0);
});

test("a first socket lost before its slot resumes in the ordinary way", async () => {
  const world = new World();
  const { client, socket: first } = await world.online();
  migrate(first);
  first.end(4000);
  await world.clock.advance(5000);
  assert.equal(client.state.name, "online");
  assert.equal(world.network.sockets.length, 2);
});

test("a second socket lost while the first still serves: one ordinary reconnect", async () => {
  const world = new World();
  const { client, seen, socket: first } = await world.online();
  const { on_attach: attach } = world.gateway;
  let isSlow = true;
  world.gateway.on_attach = function slow(socket, frame) {
    attach.call(this, isSlow ? { deliver: () => {} } : socket, frame);
  };
  world.gateway.connections.get = (socket) =>
    [...world.gateway.connections].find(([known]) => known === socket)?.[1] ?? [...world.gateway.connections].at(-1)[1];
  migrate(first);
  await world.clock.advance(1100);
  isSlow = false;
  world.socket.end();
  assert.equal(first.readyState, 3);
  world.gateway.post("s1", "one");
  await world.clock.advance(2000);
  assert.equal(client.state.name, "online");
  assert.deepEqual(seen.seqs, [1]);
  assert.equal(world.network.sockets.length, 3);
});

test("an exclusive session taken over by our own second socket is not lost", async () => {
  const world = new World();
  const { session, seen, socket: first } = await world.online();
  const handled = world.gateway.on_hello;
  world.gateway.on_hello = function greet(socket, frame) {
    first.deliver({ type: "session", session: "s1", event: "superseded", version: 2 });
    handled.call(this, socket, frame);
  };
  migrate(first);
  await world.clock.advance(1100);
  assert.deepEqual(seen.ended, []);
  assert.equal(session.live, true);
});

test("a session attached during the move is attached on the second", async () => {
  const world = new World();
  const { client, socket: first } = await world.online();
  world.gateway.session("s2");
  const handled = world.gateway.on_hello;
  let added = null;
  world.gateway.on_hello = function greet(socket, frame) {
    added ??= client.attach("s2", { since: 0 }); // after the hello was written
    handled.call(this, socket, frame);
  };
  migrate(first);
  await world.clock.advance(1100);
  assert.equal(added.live, true);
  assert.equal(first.closedWith.code, 1000);
});

test("a session that does not become live on the second holds the first open no longer than the deadline", async () => {
  const world = new World();
  const { client, socket: first } = await world.online();
  const { on_attach: attach } = world.gateway;
  world.gateway.on_attach = function slow(socket, frame) {
    attach.call(this, { deliver: (each) => each.type !== "live" && socket.deliver(each) }, frame);
  };
  world.gateway.connections.get = (socket) =>
    [...world.gateway.connections].find(([known]) => known === socket)?.[1] ?? [...world.gateway.connections].at(-1)[1];
  migrate(first);
  // The slot included.
  await world.clock.advance(29_900);
  assert.equal(first.readyState, 1);
  await world.clock.advance(200);
  assert.equal(first.closedWith.code, 1000);
  assert.equal(client.state.name, "online");
});

test("a client without sessions moves too", async () => {
  const world = new World();
  const client = world.connect();
  await settle();
  const first = world.socket;
  migrate(first);
  await world.clock.advance(1100);
  assert.equal(first.closedWith.code, 1000);
  assert.equal(client.connection, "connection-2");
});

test("a second migrate while one is under way changes nothing; one later moves again", async () => {
  const world = new World();
  const { socket: first } = await world.online();
  migrate(first);
  migrate(first);
  await world.clock.advance(3000);
  assert.equal(world.network.sockets.length, 2);
  migrate(world.socket);
  await world.clock.advance(3000);
  assert.equal(world.network.sockets.length, 3);
});

test("a token provider that fails for the second socket is asked again", async () => {
  const world = new World();
  let calls = 0;
  const { client, socket: first } = await world.online({
    getToken: () => {
      calls += 1;
      if (calls === 2) {
        throw new Error("away");
      }
      return "t";
    },
  });
  migrate(first);
  await world.clock.advance(2000);
  assert.equal(first.closedWith.code, 1000);
  assert.deepEqual(client.states, ["online"]);
});

test("close() in the middle of a move closes both", async () => {
  const world = new World();
  const { client, socket: first } = await world.online();
  world.network.opened = () => {};
  migrate(first);
  await world.clock.advance(1100);
  client.close();
  assert.deepEqual(world.network.sockets.map(({ readyState }) => readyState), [3, 3]);
  assert.equal(world.clock.pending, 0);
});

test("what a lost socket has brought is news when the next one brings the same", async () => {
  const world = new World();
  const { seen, socket } = await world.online();
  const typing = { type: "signal", session: "s1", name: "typing", sender: "bob" };
  socket.deliver(typing);
  assert.equal(seen.signal.length, 1);
  socket.end();
  await world.clock.advance(300);
  assert.notEqual(world.socket, socket);
  world.socket.deliver(typing);
  assert.equal(seen.signal.length, 2, "bob goes on typing");
});
