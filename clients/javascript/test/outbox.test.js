import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeStorage, World, outcome, record, settle } from "./world/world.js";

const contents = (world, session = "s1") => world.gateway.session(session).messages.map(({ content }) => content);

test("a send has its entry at once and its promise at the ack", async () => {
  const world = new World();
  const { session, seen } = await world.online();
  const sending = session.send("hello", { role: "assistant", metadata: { a: 1 } });
  assert.equal(sending.entry.state, "sending");
  assert.deepEqual(session.pending, [sending.entry]);
  const ack = await sending;
  assert.deepEqual(ack, { seq: 1, ts: world.clock.now, duplicate: false });
  assert.equal(sending.entry.state, "sent");
  assert.equal(sending.entry.seq, 1);
  assert.deepEqual(session.pending, []);
  assert.deepEqual(seen.outgoing.map(({ state }) => state), ["sending", "sent"]);
  const [message] = seen.message;
  assert.deepEqual([message.clientId, message.role, message.metadata], [sending.entry.id, "assistant", { a: 1 }]);
});

test("sends made without a connection go out in order when there is one", async () => {
  const world = new World();
  world.gateway.session("s1");
  const client = world.connect();
  const session = client.attach("s1", { since: 0 });
  const sendings = ["a", "b", "c"].map((content) => session.send(content));
  await settle();
  assert.deepEqual((await Promise.all(sendings)).map(({ seq }) => seq), [1, 2, 3]);
  assert.deepEqual(contents(world), ["a", "b", "c"]);
});

test("a lost ack: the same id again on the next connection, and the first ack as a duplicate", async () => {
  const world = new World();
  const { session, seen, socket } = await world.online();
  world.gateway.loseAck = (from) => from === socket;
  const sending = session.send("once");
  await settle();
  assert.deepEqual(seen.seqs, [1]);
  socket.end();
  await world.clock.advance(200);
  assert.deepEqual(await sending, { seq: 1, ts: world.clock.now - 200, duplicate: true });
  assert.deepEqual([socket, world.socket].flatMap((each) => each.sentOf("send")).map(({ id }) => id), ["c-1", "c-1"]);
  assert.deepEqual(contents(world), ["once"]);
  assert.equal(sending.entry.attempts, 2);
});

test("an ack that does not come on a living connection is asked for again", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  let losses = 1;
  world.gateway.loseAck = () => losses-- > 0;
  const sending = session.send("once");
  await world.clock.advance(10_100);
  assert.equal((await sending).duplicate, true);
  assert.equal(socket.sentOf("send").length, 2);
  assert.deepEqual(contents(world), ["once"]);
});

test("unacked sends keep their order over a reconnect", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  socket.isDeaf = true;
  const sendings = Array.from({ length: 20 }, (_, n) => session.send(`m${n}`));
  await settle();
  socket.end();
  await world.clock.advance(200);
  await Promise.all(sendings);
  assert.deepEqual(contents(world), Array.from({ length: 20 }, (_, n) => `m${n}`));
});

test("a retryable refusal is tried again when the gateway says, and nothing overtakes it", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  let refusals = 2;
  world.gateway.intercept = (from, frame) => {
    if (frame.type !== "send" || refusals === 0) {
      return false;
    }
    refusals -= 1;
    from.deliver({ type: "error", id: frame.id, code: "unavailable", message: "", retryable: true, retry_after_ms: 3000 });
    return true;
  };
  const sendings = ["a", "b"].map((content) => session.send(content));
  await world.clock.advance(2000);
  sendings.push(session.send("c"));
  await world.clock.advance(900);
  assert.equal(socket.sentOf("send").length, 1);
  await world.clock.advance(3500);
  await Promise.all(sendings);
  assert.deepEqual(contents(world), ["a", "b", "c"]);
});

test("with a window several are under way; after a refusal one at a time until the gateway takes them again", async () => {
  const world = new World();
  const { session, socket } = await world.online({ outbox: { window: 4 } });
  const refusals = ["a", "b", "c", "d", "a"];
  world.gateway.intercept = (from, frame) => {
    if (frame.type !== "send" || frame.content !== refusals[0]) {
      return false;
    }
    refusals.shift();
    from.deliver({ type: "error", id: frame.id, code: "rate_limited", message: "", retryable: true, retry_after_ms: 100 });
    return true;
  };
  const sendings = ["a", "b", "c", "d", "e"].map((content) => session.send(content));
  await settle();
  assert.deepEqual(refusals, ["a"]);
  await world.clock.advance(10_000);
  await Promise.all(sendings);
  assert.deepEqual(contents(world), ["a", "b", "c", "d", "e"]);
  assert.equal(socket.sentOf("send").length, 10);
});

test("a refusal for good fails the entry, and the next one goes out", async () => {
  const world = new World();
  const { session, seen } = await world.online();
  world.gateway.intercept = (from, frame) => {
    const isBad = frame.type === "send" && frame.content === "bad";
    if (isBad) {
      from.deliver({ type: "error", id: frame.id, code: "bad_request", message: "no", retryable: false });
    }
    return isBad;
  };
  const bad = session.send("bad");
  const good = session.send("good");
  await assert.rejects(bad, { code: "bad_request" });
  assert.equal((await good).seq, 1);
  assert.deepEqual([bad.entry.state, bad.entry.error.code], ["failed", "bad_request"]);
  assert.equal(seen.outgoing.filter(({ state }) => state === "failed").length, 1);
});

test("a failed entry may be tried again with its id", async () => {
  const world = new World();
  const { session } = await world.online();
  world.gateway.intercept = (from, { id, type }) => {
    if (type === "send") {
      from.deliver({ type: "error", id, code: "forbidden", message: "", retryable: false });
    }
    return type === "send";
  };
  const { entry } = session.send("hello");
  await settle();
  assert.equal(entry.state, "failed");
  world.gateway.intercept = () => false;
  assert.equal((await session.send(entry.content, { id: entry.id })).seq, 1);
});

test("not_attached: it attaches again and sends again", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  world.gateway.connections.get(socket).cursors.delete("s1");
  const sending = session.send("hello");
  await world.clock.advance(2000);
  assert.equal((await sending).seq, 1);
  assert.equal(socket.sentOf("attach").length, 1);
});

test("the same id twice is one send; the same id for something else is a conflict", async () => {
  const world = new World();
  const { session, socket } = await world.online();
  const first = session.send("x", { id: "mine" });
  assert.equal(session.send("x", { id: "mine" }), first);
  assert.equal((await outcome(session.send("y", { id: "mine" }))).error.code, "id_conflict");
  await first;
  assert.equal(socket.sentOf("send").length, 1);
});

test("ids and contents that cannot be sent are refused here", async () => {
  const world = new World();
  const { session } = await world.online();
  for (const [content, id] of [[42, "a"], ["x", ""], ["x", "i".repeat(65)], ["x", "rq:1"], ["x", 7]]) {
    assert.equal((await outcome(session.send(content, { id }))).error.code, "bad_request");
  }
});

test("a send above the socket's limit is refused here: on the wire it would end the connection each time it is resent", async () => {
  const world = new World();
  const { client, session } = await world.online();
  const large = session.send("\u0001".repeat(60_000));
  const small = session.send("small");
  assert.equal((await outcome(large)).error.code, "too_large");
  assert.equal((await small).seq, 1);
  assert.equal(client.state.name, "online");
});

test("the outbox is bounded in count", async () => {
  const world = new World();
  const { client, session, socket } = await world.online({ outbox: { entries: 3 } });
  socket.isDeaf = true;
  const sendings = ["a", "b", "c"].map((content) => session.send(content));
  const refused = session.send("d");
  assert.equal(refused.entry.state, "failed");
  await assert.rejects(refused, { code: "queue_full", retryable: true });
  assert.equal(client.pending.length, 3);
  assert.equal(sendings[2].entry.state, "sending");
});

test("the outbox is bounded in bytes", async () => {
  const world = new World();
  const { session, socket } = await world.online({ outbox: { bytes: 1000 } });
  socket.isDeaf = true;
  const first = session.send("ä".repeat(400));
  assert.equal((await outcome(session.send("ä".repeat(400)))).error.code, "queue_full");
  socket.end();
  await world.clock.advance(200);
  await first;
  assert.equal((await session.send("ä".repeat(400))).seq, 2);
});

test("with a storage unacked sends survive a reload, once and in order", async () => {
  const world = new World();
  const storage = new FakeStorage();
  const before = await world.online({ storage });
  world.gateway.loseAck = () => true;
  before.session.send("stored, but unacked", { metadata: { k: 1 } });
  before.session.send("waiting");
  await settle();
  before.socket.isDeaf = true; // the page is gone without a word
  world.gateway.loseAck = () => false;
  const after = world.connect({ storage });
  assert.deepEqual(after.pending.map(({ content }) => content), ["stored, but unacked", "waiting"]);
  const session = after.attach("s1", { since: 0 });
  const seen = record(session);
  await settle();
  assert.deepEqual(contents(world), ["stored, but unacked", "waiting"]);
  assert.deepEqual(after.pending, []);
  assert.deepEqual(seen.outgoing.map(({ state }) => state), ["sent", "sent"]);
  assert.deepEqual(JSON.parse(storage.getItem("gateway.outbox")).entries, []);
});

test("a burst of sends is one write to the storage", async () => {
  const world = new World();
  const storage = new FakeStorage();
  const { session, socket } = await world.online({ storage });
  socket.isDeaf = true;
  await settle();
  storage.writes = 0;
  for (let n = 0; n < 100; n += 1) {
    session.send(`m${n}`);
  }
  await settle();
  assert.equal(storage.writes, 1);
  assert.equal(JSON.parse(storage.getItem("gateway.outbox")).entries.length, 100);
});

test("close() leaves unacked sends in the storage for the next client", async () => {
  const world = new World();
  const storage = new FakeStorage();
  const { client, session, socket } = await world.online({ storage });
  socket.isDeaf = true;
  const sending = session.send("later");
  client.close();
  assert.equal((await outcome(sending)).error.code, "closed");
  assert.equal(JSON.parse(storage.getItem("gateway.outbox")).entries.length, 1);
});

test("what another user left in the storage is not sent in this one's name", async () => {
  const world = new World();
  const storage = new FakeStorage();
  const { session, socket } = await world.online({ storage });
  socket.isDeaf = true;
  session.send("alice's");
  await settle();
  world.gateway.user = "mallory";
  const client = world.connect({ storage });
  const failed = [];
  client.on("outgoing", (entry) => failed.push([entry.content, entry.state, entry.error?.code]));
  const again = client.attach("s1");
  again.send("mallory's");
  await settle();
  assert.deepEqual(contents(world), ["mallory's"]);
  assert.deepEqual(failed.find(([content]) => content === "alice's"), ["alice's", "failed", "forbidden"]);
});

test("a storage that refuses is told, and nothing else breaks", async () => {
  const world = new World();
  const storage = { getItem: () => "{broken", setItem: () => { throw new Error("quota"); } };
  const client = world.connect({ storage });
  const errors = [];
  client.on("error", (error) => errors.push(error.code));
  world.gateway.session("s1");
  assert.equal((await client.attach("s1").send("x")).seq, 1);
  assert.ok(errors.length > 0 && errors.every((code) => code === "storage"));
});
