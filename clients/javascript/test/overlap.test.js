// Two sockets of one client, for longer than a moment: which of them serves what, and what is said on the second meanwhile.

import assert from "node:assert/strict";
import { test } from "node:test";
import { World, settle } from "./world/world.js";

const migrate = (socket, more) =>
  socket.deliver({ type: "migrate", slot_ms: 1000, deadline_ms: 30_000, url: null, reason: "drain", ...more });

test("a node that leaves while a client moves to it is left in its turn, its slot counted from when it was told", async () => {
  const world = new World();
  const { client, session, socket: first } = await world.online();
  const kept = [];
  world.gateway.intercept = (socket, frame) => frame.type === "history" && kept.push([socket, frame]) > 0;
  session.history().catch(() => {}); // holds the first socket open
  await settle();
  migrate(first);
  await world.clock.advance(1100);
  const second = world.socket;
  migrate(second, { slot_ms: 2000 });
  await world.clock.advance(1500);
  assert.equal(first.readyState, 1);
  world.gateway.handle(...kept[0]);
  await world.clock.advance(400);
  assert.equal(first.closedWith.code, 1000);
  assert.equal(world.network.sockets.length, 2);
  await world.clock.advance(200);
  assert.equal(world.network.sockets.length, 3);
  assert.equal(second.closedWith.code, 1000);
  assert.deepEqual(client.states, ["online"]);
});

test("close() while the second socket is to be left as well leaves no timer", async () => {
  const world = new World();
  const { client, session, socket: first } = await world.online();
  world.gateway.intercept = (_socket, frame) => frame.type === "history";
  session.history().catch(() => {});
  await settle();
  migrate(first);
  await world.clock.advance(1100);
  migrate(world.socket);
  client.close();
  assert.deepEqual(world.network.sockets.map(({ readyState }) => readyState), [3, 3]);
  assert.equal(world.clock.pending, 0);
});

test("until the second socket has attached a session, the first serves it: requests and signals do not fail", async () => {
  const world = new World();
  const { session, socket: first } = await world.online();
  const { on_attach: attach } = world.gateway;
  const late = [];
  world.gateway.on_attach = function slow(socket, frame) {
    late.push(() => attach.call(this, socket, frame));
  };
  migrate(first);
  await world.clock.advance(1100);
  const second = world.socket;
  assert.equal(second.readyState, 1);
  assert.equal(session.signal("typing"), true);
  assert.deepEqual(await session.update({ title: "new" }), { version: 7 });
  assert.deepEqual(first.sent.slice(-2).map(({ type }) => type), ["signal", "update"]);
  late.forEach((each) => each());
  await settle();
  assert.equal(first.closedWith.code, 1000);
  assert.equal(session.signal("typing"), true);
  await session.update({ title: "newer" });
  assert.deepEqual(second.sent.slice(-2).map(({ type }) => type), ["signal", "update"]);
});

test("a session that is left during a move is detached on the second socket", async () => {
  const world = new World();
  const { session, socket: first } = await world.online();
  world.gateway.intercept = (_socket, frame) => frame.type === "history";
  session.history().catch(() => {});
  await settle();
  migrate(first);
  await world.clock.advance(1100);
  const second = world.socket;
  assert.equal(first.readyState, 1);
  await session.detach();
  assert.deepEqual(second.sent.at(-1).type, "detach");
  assert.notEqual(first.sent.at(-1).type, "detach");
});
