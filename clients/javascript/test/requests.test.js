import assert from "node:assert/strict";
import { test } from "node:test";
import { World, settle } from "./world/world.js";

test("history comes ascending, with what it is part of", async () => {
  const world = new World();
  for (let n = 1; n <= 7; n += 1) {
    world.gateway.post("s1", `message ${n}`);
  }
  const { session, socket } = await world.online({}, { since: 7 });
  const newest = await session.history({ limit: 3 });
  assert.deepEqual(newest.messages.map(({ seq }) => seq), [5, 6, 7]);
  assert.deepEqual([newest.head, newest.more], [7, true]);
  assert.equal(newest.messages[0].session, "s1");
  const earlier = await session.history({ before: 3 });
  assert.deepEqual(earlier.messages.map(({ seq }) => seq), [1, 2]);
  assert.equal(earlier.more, false);
  const later = await session.history({ after: 5 });
  assert.deepEqual(later.messages.map(({ seq }) => seq), [6, 7]);
  assert.equal("after" in socket.sentOf("history")[0], false);
});

test("presence, update and close have their answers", async () => {
  const world = new World();
  const { client, session, seen } = await world.online();
  assert.equal((await session.presence())[0].user, "alice");
  assert.deepEqual(await session.update({ title: "renamed" }), { version: 7 });
  assert.equal(session.title, "renamed");
  await session.close();
  assert.equal(seen.ended[0].code, "closed");
  assert.equal(client.sessions.size, 0);
});

test("close() whose answer was lost is asked again, and closed already is closed", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  world.gateway.intercept = (from, frame) => {
    if (frame.type !== "close") {
      return false;
    }
    if (from === socket) {
      from.end();
    } else {
      from.deliver({ type: "error", id: frame.id, code: "closed", message: "" });
    }
    return true;
  };
  const closed = session.close();
  await world.clock.advance(500);
  await closed;
});

test("what may be asked twice is asked again after a reconnect", async () => {
  const world = new World();
  world.gateway.post("s1", "one");
  const { session, socket } = await world.online();
  world.gateway.intercept = (from, frame) => from === socket && frame.type === "history";
  const asked = session.history();
  await settle();
  socket.end();
  await world.clock.advance(500);
  assert.equal((await asked).messages.length, 1);
});

test("update() is not asked again: somebody else may have written meanwhile", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  world.gateway.intercept = () => true;
  const asked = assert.rejects(session.update({ title: "x" }), { code: "connection_lost" });
  await settle();
  socket.end();
  await asked;
});

test("a retryable refusal of a question is waited out, as long as it asks", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  let refusals = 2;
  world.gateway.intercept = (from, frame) => {
    if (frame.type !== "presence" || refusals === 0) {
      return false;
    }
    refusals -= 1;
    from.deliver({ type: "error", id: frame.id, code: "rate_limited", message: "", retryable: true, retry_after_ms: 2000 });
    return true;
  };
  const asked = session.presence();
  await world.clock.advance(1900);
  assert.equal(socket.sentOf("presence").length, 1);
  await world.clock.advance(2200);
  assert.equal((await asked).length, 1);
});

test("a refusal for good is told at once", async () => {
  const world = new World();
  const { session } = await world.online();
  world.gateway.intercept = (from, { id, type }) => {
    from.deliver({ type: "error", id, code: "forbidden", message: `a reader may not ${type}`, retryable: false });
    return true;
  };
  await assert.rejects(session.update({ title: "x" }), { name: "GatewayError", code: "forbidden", message: "a reader may not update" });
});

test("no answer within the time limit is a timeout", async () => {
  const world = new World();
  const { client, session } = await world.online({ requestTimeoutMs: 3000 });
  world.gateway.intercept = (_socket, { type }) => type !== "heartbeat";
  const asked = assert.rejects(session.history(), { code: "timeout", retryable: true });
  const opened = assert.rejects(client.open(), { code: "timeout" });
  await world.clock.advance(3100);
  await asked;
  await opened;
});

test("a request without a connection waits for one, up to its time limit", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  socket.end();
  const answered = session.presence();
  await world.clock.advance(500);
  assert.equal((await answered).length, 1);
  world.network.opened = () => {};
  world.socket.end();
  const late = assert.rejects(session.presence(), { code: "timeout" });
  await world.clock.advance(10_100);
  await late;
});

test("requests that wait for a connection are bounded", async () => {
  const world = new World();
  const client = world.connect();
  const waiting = Array.from({ length: 256 }, () => client.open().catch(() => {}));
  await assert.rejects(client.open(), { code: "queue_full", retryable: true });
  client.close();
  await Promise.all(waiting);
});

test("a request above the gateway's limit is refused here: on the wire it would end the connection", async () => {
  const world = new World();
  const { client, session } = await world.online();
  await assert.rejects(session.update({ context: { text: "x".repeat(300_000) } }), { code: "too_large" });
  assert.equal(client.state.name, "online");
});

test("signals go out when there is a connection, and come in with their sender", async () => {
  const world = new World();
  const { client, session, seen, socket } = await world.online();
  assert.equal(session.signal("typing", { on: true }), true);
  assert.deepEqual(socket.sentOf("signal")[0], { type: "signal", session: "s1", name: "typing", data: { on: true } });
  socket.deliver({ type: "signal", session: "s1", name: "typing", data: 1, sender: "bob", connection: "c9" });
  assert.deepEqual(seen.signal, [{ name: "typing", data: 1, sender: "bob", connection: "c9" }]);
  const toUser = [];
  client.on("signal", (signal, of) => toUser.push([signal, of]));
  socket.deliver({ type: "signal", user: "alice", name: "session.joined", data: { session: "s9" } });
  assert.deepEqual(toUser, [[{ name: "session.joined", data: { session: "s9" }, sender: null, connection: null }, null]]);
  socket.end();
  assert.equal(session.signal("typing"), false);
});

test("presence events and others' read markers are told", async () => {
  const world = new World();
  const { seen, socket } = await world.online();
  socket.deliver({ type: "presence", session: "s1", event: "join", user: "bob", connections: 1 });
  socket.deliver({ type: "read", session: "s1", user: "bob", seq: 3 });
  assert.deepEqual(seen.presence, [{ event: "join", user: "bob", connections: 1 }]);
  assert.deepEqual(seen.read, [{ user: "bob", seq: 3 }]);
});

test("read markers are gathered, never go back, and are told again after a reconnect", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  for (let seq = 1; seq <= 50; seq += 1) {
    session.read(seq);
  }
  session.read(7);
  await world.clock.advance(300);
  assert.deepEqual(socket.sentOf("read").map(({ seq }) => seq), [50]);
  session.read(50);
  await world.clock.advance(300);
  assert.equal(socket.sentOf("read").length, 1);
  socket.end();
  session.read(51);
  await world.clock.advance(1000);
  assert.deepEqual(world.socket.sentOf("read").map(({ seq }) => seq), [51]);
  world.socket.end();
  await world.clock.advance(2000);
  assert.deepEqual(world.socket.sentOf("read").map(({ seq }) => seq), [51]);
});

test("an error that belongs to no request is told by the client", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  const errors = [];
  client.on("error", (error) => errors.push(error.code));
  socket.deliver({ type: "error", code: "rate_limited", message: "", retryable: true });
  socket.deliver({ type: "error", id: "strange", code: "internal", message: "" });
  assert.deepEqual(errors, ["rate_limited", "internal"]);
});

test("an expiring token is refreshed, with patience for the provider", async () => {
  const world = new World();
  let calls = 0;
  const { client, socket } = await world.online({
    getToken: () => {
      calls += 1;
      if (calls === 2) {
        throw new Error("the login service is away");
      }
      return `token-${calls}`;
    },
  });
  socket.deliver({ type: "expiring", in_ms: 60_000 });
  await world.clock.advance(5100);
  assert.deepEqual(socket.sentOf("refresh").map(({ token }) => token), ["token-3"]);
  assert.equal(client.state.name, "online");
});

test("a refresh that is refused for good is told", async () => {
  const world = new World();
  const { client, socket } = await world.online({ getToken: () => "t" });
  world.gateway.intercept = (from, { id, type }) => {
    from.deliver({ type: "error", id, code: "unauthenticated", message: "", retryable: false });
    return type === "refresh";
  };
  const errors = [];
  client.on("error", (error) => errors.push(error.code));
  socket.deliver({ type: "expiring", in_ms: 60_000 });
  await settle();
  assert.deepEqual(errors, ["unauthenticated"]);
});

test("a provider that fails until the expiry is told once", async () => {
  const world = new World();
  let fails = false;
  const { client, socket } = await world.online({
    getToken: async () => {
      if (fails) {
        throw new Error("away");
      }
      return "t";
    },
  });
  fails = true;
  const errors = [];
  client.on("error", (error) => errors.push(error.message));
  socket.deliver({ type: "expiring", in_ms: 12_000 });
  await world.clock.advance(30_000);
  assert.deepEqual(errors, ["away"]);
});

test("a second notice of expiry takes over from the first", async () => {
  const world = new World();
  let calls = 0;
  const { client, socket } = await world.online({
    getToken: async () => {
      calls += 1;
      if (calls > 1) {
        throw new Error(`away ${calls}`);
      }
      return "t";
    },
  });
  client.on("error", () => {});
  socket.deliver({ type: "expiring", in_ms: 60_000 });
  socket.deliver({ type: "expiring", in_ms: 59_000 });
  await world.clock.advance(20_500);
  assert.equal(calls, 1 + 2 + 4);
});

test("without a token provider an expiry is the next connection's matter", async () => {
  const world = new World();
  const { socket } = await world.online({ getTicket: () => "ticket" });
  socket.deliver({ type: "expiring", in_ms: 60_000 });
  await world.clock.advance(10_000);
  assert.equal(socket.sentOf("refresh").length, 0);
});
