import assert from "node:assert/strict";
import { test } from "node:test";
import { World, settle } from "./world/world.js";

const RECONNECT = [1005, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4003, 4004, 4005, 4029, 4099, 4499];
const DONE = [1000, 1001, 1002, 1003, 1007, 1009, 4500, 4501, 4502, 4503, 4504, 4599, 4999];

for (const code of RECONNECT) {
  test(`${code}: the client comes back by itself`, async () => {
    const world = new World();
    const { client, socket, session } = await world.online();
    socket.end(code);
    assert.equal(client.state.name, "reconnecting");
    assert.ok(client.state.why.endsWith("."));
    await world.clock.advance(5000);
    assert.equal(client.state.name, "online");
    assert.equal(session.live, true);
    client.close();
  });
}

for (const code of DONE) {
  test(`${code}: the client does not come back by itself, and says why`, async () => {
    const world = new World();
    const { client, socket } = await world.online();
    socket.end(code, "a reason");
    assert.equal(client.state.name, "closed");
    assert.equal(client.state.code, code);
    assert.equal(client.state.reason, "a reason");
    assert.ok(client.state.why.endsWith("."));
    await world.clock.advance(120_000);
    assert.equal(world.network.sockets.length, 1);
    assert.equal(world.clock.pending, 0);
  });
}

test("who hears of the end may begin anew at once", async () => {
  const world = new World();
  const { client, session, socket } = await world.online();
  client.on("state", ({ name }) => name === "closed" && client.reconnect());
  world.gateway.intercept = (_socket, { type }) => type === "open";
  const asked = assert.rejects(client.open(), { code: "connection_lost" });
  await settle();
  socket.end(4500);
  await asked;
  await settle();
  assert.equal(client.state.name, "online");
  assert.equal(session.live, true);
});

test("after a refusal reconnect() begins anew, from the cursors", async () => {
  const world = new World();
  const { client, session, seen, socket } = await world.online();
  socket.end(4500);
  await assert.rejects(client.ready(), { code: "unauthenticated" });
  await assert.rejects(client.open(), { code: "unauthenticated" });
  world.gateway.post("s1", "meanwhile");
  client.reconnect();
  await settle();
  assert.equal(client.state.name, "online");
  assert.deepEqual(seen.seqs, [1]);
  assert.equal(session.live, true);
});
