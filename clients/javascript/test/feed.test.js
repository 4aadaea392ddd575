import assert from "node:assert/strict";
import { test } from "node:test";
import { World, outcome, settle } from "./world/world.js";

async function take(feed, count) {
  const seqs = [];
  for (let n = 0; n < count; n += 1) {
    seqs.push((await feed.next()).value?.seq);
  }
  return seqs;
}

test("for await gives the messages in order and ends with the session", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  const contents = [];
  const reading = (async () => {
    for await (const message of session.messages()) {
      contents.push(message.content);
    }
  })();
  world.gateway.post("s1", "one");
  await settle();
  world.gateway.post("s1", "two");
  socket.deliver({ type: "session", session: "s1", event: "closed" });
  await reading;
  assert.deepEqual(contents, ["one", "two"]);
  assert.deepEqual(await session.messages().next(), { value: undefined, done: true });
});

test("it ends when the client is closed", async () => {
  const world = new World();
  const { client, session } = await world.online();
  const next = session.messages().next();
  await settle();
  client.close();
  assert.equal((await next).done, true);
});

test("leaving the loop stops listening", async () => {
  const world = new World();
  const { session } = await world.online();
  const feed = session.messages();
  await feed.return();
  world.gateway.post("s1", "one");
  assert.deepEqual(await feed.next(), { value: undefined, done: true });
});

test("calls made at once are answered in order", async () => {
  const world = new World();
  const { session } = await world.online();
  const feed = session.messages();
  const both = Promise.all([feed.next(), feed.next()]);
  world.gateway.post("s1", "one");
  world.gateway.post("s1", "two");
  assert.deepEqual((await both).map(({ value }) => value.seq), [1, 2]);
});

test("a slow reader holds a bounded number and reads the rest from the history", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  const feed = session.messages();
  for (let n = 1; n <= 1500; n += 1) {
    world.gateway.post("s1", `m${n}`);
  }
  assert.deepEqual(await take(feed, 1300), Array.from({ length: 1300 }, (_, n) => n + 1));
  world.gateway.post("s1", "while lagging");
  assert.deepEqual(await take(feed, 201), Array.from({ length: 201 }, (_, n) => n + 1301));
  assert.ok(socket.sentOf("history").length >= 3);
  world.gateway.post("s1", "caught up");
  assert.deepEqual(await take(feed, 1), [1502]);
});

test("what the history gave before it was delivered is not given twice", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  const feed = session.messages();
  for (let n = 1; n <= 1001; n += 1) {
    world.gateway.post("s1", `m${n}`);
  }
  world.gateway.connections.get(socket).cursors.set("s1", -1);
  const late = world.gateway.post("s1", "late");
  await take(feed, 1002);
  socket.deliver(late);
  world.gateway.connections.get(socket).cursors.set("s1", 1002);
  world.gateway.post("s1", "next");
  assert.deepEqual(await take(feed, 1), [1003]);
});

test("the bound counts characters too", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  const feed = session.messages();
  for (let n = 1; n <= 30; n += 1) {
    world.gateway.post("s1", "x".repeat(60_000));
  }
  assert.deepEqual(await take(feed, 30), Array.from({ length: 30 }, (_, n) => n + 1));
  assert.ok(socket.sentOf("history").length >= 1);
});

test("a history that cannot be read now is read later; one that never can be is told", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  const feed = session.messages();
  for (let n = 1; n <= 1100; n += 1) {
    world.gateway.post("s1", `m${n}`);
  }
  await take(feed, 1000);
  let answer = { code: "unavailable", retryable: true };
  world.gateway.intercept = (from, { id, type }) => {
    if (type === "history" && answer) {
      from.deliver({ type: "error", id, message: "", ...answer });
    }
    return type === "history" && answer !== null;
  };
  const next = feed.next();
  await world.clock.advance(15_000);
  assert.equal((await outcome(next)).state, "pending");
  answer = null;
  await world.clock.advance(15_000);
  assert.equal((await next).value.seq, 1001);
  await take(feed, 99);
  for (let n = 1; n <= 1100; n += 1) {
    world.gateway.post("s1", `n${n}`);
  }
  await take(feed, 1000);
  answer = { code: "forbidden", retryable: false };
  await assert.rejects(feed.next(), { code: "forbidden" });
  assert.equal(socket.readyState, 1);
});
