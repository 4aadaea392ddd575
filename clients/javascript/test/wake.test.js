import assert from "node:assert/strict";
import { test } from "node:test";
import { World, settle } from "./world/world.js";

async function waiting(world) {
  const { client, socket } = await world.online();
  world.network.opened = (refused) => refused.end();
  socket.end();
  await world.clock.advance(40_000);
  world.network.opened = (accepted) => accepted.accept();
  assert.equal(client.state.name, "reconnecting");
  assert.ok(client.state.retryAt - world.clock.now > 100);
  return client;
}

test("a page that becomes visible tries at once", async () => {
  const world = new World();
  const client = await waiting(world);
  world.show("hidden");
  await settle();
  assert.equal(client.state.name, "reconnecting");
  world.show("visible");
  await settle();
  assert.equal(client.state.name, "online");
});

test("a network that returns tries at once", async () => {
  const world = new World();
  const client = await waiting(world);
  world.setNetwork(false);
  assert.equal(client.state.name, "offline");
  await world.clock.advance(120_000);
  assert.equal(client.state.name, "offline");
  world.setNetwork(true);
  await settle();
  assert.equal(client.state.name, "online");
});

test("reconnect() tries at once", async () => {
  const world = new World();
  const client = await waiting(world);
  client.reconnect();
  await settle();
  assert.equal(client.state.name, "online");
});

test("without network it waits instead of trying", async () => {
  const world = new World();
  world.hasNetwork = false;
  const client = world.connect();
  await world.clock.advance(60_000);
  assert.equal(client.state.name, "offline");
  assert.equal(world.network.sockets.length, 0);
  world.setNetwork(true);
  await settle();
  assert.equal(client.state.name, "online");
});

test("a connection lost without network waits for the network", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  world.hasNetwork = false;
  socket.end();
  assert.equal(client.state.name, "offline");
});

test("a gateway on this machine needs no network, until the network is known to have gone", async () => {
  const { connect } = await import("../src/index.js");
  const world = new World();
  world.hasNetwork = false;
  const { WebSocket } = world.network;
  const { document, window } = world;
  const surroundings = { document, window, hasNetwork: () => world.hasNetwork };
  const client = connect("ws://127.0.0.1:8000/ws", { WebSocket, surroundings });
  await settle();
  assert.equal(client.state.name, "online");
  world.setNetwork(false);
  world.socket.end();
  assert.equal(client.state.name, "offline");
  client.close();
});

test("a page that becomes visible finds out within 5 s that its connection is dead", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  socket.isDeaf = true;
  world.show("visible");
  assert.equal(socket.sentOf("heartbeat").length, 1);
  world.show("visible");
  assert.equal(socket.sentOf("heartbeat").length, 1);
  await world.clock.advance(5300);
  assert.equal(client.state.name, "online");
  assert.equal(world.network.sockets.length, 2);
});

test("a connection that answers the probe is kept", async () => {
  const world = new World();
  const { client } = await world.online();
  world.setNetwork(false);
  await world.clock.advance(6000);
  assert.equal(client.state.name, "online");
  assert.equal(world.network.sockets.length, 1);
});

test("a try that hangs on the old network is given up for one on the new", async () => {
  const world = new World();
  world.network.opened = () => {}; // no answer
  const client = world.connect();
  await settle();
  world.network.opened = (socket) => socket.accept();
  world.setNetwork(true);
  await settle();
  assert.equal(client.state.name, "online");
  assert.equal(world.network.sockets.length, 2);
  assert.equal(world.network.sockets[0].readyState, 3);
});
