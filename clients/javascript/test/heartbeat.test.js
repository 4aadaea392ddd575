import assert from "node:assert/strict";
import { test } from "node:test";
import { World, settle } from "./world/world.js";

const beats = (socket) => socket.sentOf("heartbeat");

test("the first heartbeat comes at a random moment of the interval, the others an interval after each other", async () => {
  const world = new World();
  world.chance = () => 0.2;
  const { client, socket } = await world.online();
  await world.clock.advance(4999);
  assert.equal(beats(socket).length, 0);
  await world.clock.advance(2);
  assert.equal(beats(socket).length, 1);
  await world.clock.advance(50_000);
  assert.equal(beats(socket).length, 3);
  assert.equal(client.rttMs, 0);
});

test("it tells what was delivered", async () => {
  const world = new World();
  const { socket } = await world.online();
  world.gateway.post("s1", "one");
  world.gateway.post("s1", "two");
  await world.clock.advance(13_000);
  assert.deepEqual(beats(socket)[0].seen, { s1: 2 });
});

test("a socket that is silent for timeout_ms is dead: the client reconnects", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  socket.isDeaf = true;
  await world.clock.advance(59_000);
  assert.equal(client.state.name, "online");
  await world.clock.advance(1100);
  assert.equal(socket.closedWith.code, 4002);
  assert.notEqual(client.state.name, "online");
  await world.clock.advance(200);
  assert.equal(client.state.name, "online");
  assert.equal(world.network.sockets.length, 2);
});

test("any frame is a sign of life", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  world.gateway.intercept = (_socket, frame) => frame.type === "heartbeat";
  for (let minute = 0; minute < 5; minute += 1) {
    await world.clock.advance(50_000);
    socket.deliver({ type: "signal", session: "s1", name: "typing", sender: "bob" });
  }
  await world.clock.advance(50_000);
  assert.equal(client.state.name, "online");
  assert.equal(world.network.sockets.length, 1);
});

test("unanswered heartbeats go on being sent", async () => {
  const world = new World();
  const { socket } = await world.online();
  world.gateway.intercept = (_socket, frame) => frame.type === "heartbeat";
  await world.clock.advance(55_000);
  assert.equal(beats(socket).length, 2);
});

test("a head above the cursor with nothing arriving: it attaches again from the cursor", async () => {
  const world = new World();
  const { session, seen, socket } = await world.online();
  world.gateway.post("s1", "one");
  // Lost on the way to this socket.
  world.gateway.connections.get(socket).cursors.set("s1", -1);
  world.gateway.post("s1", "two");
  await world.clock.advance(13_000);
  assert.equal(session.head, 2);
  assert.deepEqual(seen.seqs, [1]);
  await world.clock.advance(3100);
  assert.deepEqual(seen.seqs, [1, 2]);
  assert.deepEqual(seen.gap, [{ cursor: 1, head: 2 }]);
  assert.equal(socket.sentOf("attach")[0].since, 1);
});

test("a head whose messages are on their way is no gap", async () => {
  const world = new World();
  const { seen, socket } = await world.online();
  world.gateway.connections.get(socket).cursors.set("s1", -1);
  const late = world.gateway.post("s1", "one");
  await world.clock.advance(13_000);
  socket.deliver(late);
  await world.clock.advance(10_000);
  assert.deepEqual(seen.gap, []);
  assert.equal(socket.sentOf("attach").length, 0);
});

test("a gateway that has nothing to give is asked ever more rarely", async () => {
  const world = new World();
  const { seen, socket } = await world.online();
  world.gateway.intercept = (from, frame) => {
    if (frame.type === "attach") {
      from.deliver({ type: "attached", id: frame.id, session: "s1", head: 5, since: 0, state: "active", role: "owner" });
    }
    return frame.type === "attach";
  };
  const heads = { s1: { head: 5, ttl_ms: null } };
  for (let second = 0; second < 120; second += 1) {
    socket.deliver({ type: "heartbeat", ts: world.clock.now, sessions: heads });
    await world.clock.advance(1000);
  }
  assert.ok(seen.gap.length >= 3 && seen.gap.length <= 6, `${seen.gap.length} times`);
});
