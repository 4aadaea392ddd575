import assert from "node:assert/strict";
import { test } from "node:test";
import { World, outcome, record, settle } from "./world/world.js";

test("attached from the beginning, it delivers the history and then what happens", async () => {
  const world = new World();
  world.gateway.post("s1", "one");
  world.gateway.post("s1", "two");
  const { session, seen } = await world.online();
  assert.deepEqual(seen.seqs, [1, 2]);
  assert.deepEqual(seen.live, [{ seq: 2 }]);
  assert.equal(session.live, true);
  world.gateway.post("s1", "three");
  assert.deepEqual(seen.seqs, [1, 2, 3]);
  assert.deepEqual(seen.message[2], {
    session: "s1", seq: 3, id: "uuid-s1-3", clientId: null, sender: "bob", role: "user", content: "three", metadata: {},
    createdAt: new Date(world.clock.now).toISOString(),
  });
  assert.equal(await session.ready, session);
  assert.equal(session.title, "title of s1");
  assert.equal(session.role, "owner");
  assert.equal(session.state, "active");
  assert.equal(session.epoch, 1);
  assert.equal(session.head, 3);
  assert.equal(session.cursor, 3);
});

test("without since only what is new arrives, and after a reconnect what was missed", async () => {
  const world = new World();
  world.gateway.post("s1", "old");
  const { seen, socket } = await world.online({}, { since: null });
  assert.equal("since" in socket.hello.attach[0], false);
  assert.deepEqual(seen.seqs, []);
  socket.end();
  world.gateway.post("s1", "missed");
  await world.clock.advance(200);
  assert.deepEqual(seen.seqs, [2]);
});

test("the client hears session events too, with the session", async () => {
  const world = new World();
  const { client, session } = await world.online();
  const heard = [];
  client.on("message", (message, of) => heard.push([message.content, of === session]));
  world.gateway.post("s1", "one");
  assert.deepEqual(heard, [["one", true]]);
});

test("every hello carries the resume token and the cursors", async () => {
  const world = new World();
  const { client, seen, socket } = await world.online();
  world.gateway.post("s1", "one");
  socket.end();
  world.gateway.post("s1", "two");
  const welcomes = [];
  client.on("welcome", (welcome) => welcomes.push(welcome));
  await world.clock.advance(200);
  assert.equal(world.socket.hello.resume, "resume-1");
  assert.deepEqual(world.socket.hello.attach, [{ session: "s1", since: 1 }]);
  assert.equal(welcomes[0].resumed, true);
  assert.deepEqual(seen.seqs, [1, 2]);
  world.socket.end();
  await world.clock.advance(2000);
  assert.equal(world.socket.hello.resume, "resume-2");
});

test("a resume token that is no longer good costs nothing", async () => {
  const world = new World();
  const { client, session, seen, socket } = await world.online();
  world.gateway.post("s1", "one");
  socket.end();
  world.gateway.resumes.clear();
  world.gateway.post("s1", "two");
  const welcomes = [];
  client.on("welcome", (welcome) => welcomes.push(welcome));
  await world.clock.advance(200);
  assert.equal(welcomes[0].resumed, false);
  assert.deepEqual(seen.seqs, [1, 2]);
  assert.equal(session.live, true);
});

test("a message twice is delivered once; two in disorder are delivered in order", async () => {
  const world = new World();
  const { seen, socket } = await world.online();
  const [one, two, three] = ["one", "two", "three"].map((content) => {
    world.gateway.connections.get(socket).cursors.set("s1", -1);
    return world.gateway.post("s1", content);
  });
  for (const message of [one, three, one, two, three, two]) {
    socket.deliver(message);
  }
  assert.deepEqual(seen.seqs, [1, 2, 3]);
  await world.clock.advance(1000);
  assert.deepEqual(seen.gap, []);
});

test("a hole that stays is read again from the cursor within a moment", async () => {
  const world = new World();
  const { seen, socket } = await world.online();
  world.gateway.connections.get(socket).cursors.set("s1", -1);
  world.gateway.post("s1", "lost");
  socket.deliver(world.gateway.post("s1", "early"));
  assert.deepEqual(seen.seqs, []);
  await world.clock.advance(250);
  assert.deepEqual(seen.gap, [{ cursor: 0, head: 2 }]);
  assert.deepEqual(seen.seqs, [1, 2]);
});

test("a session that does not exist ends with its error; ready rejects", async () => {
  const world = new World();
  const client = world.connect();
  const session = client.attach("nowhere");
  const seen = record(session);
  assert.equal((await outcome(session.ready)).error.code, "not_found");
  assert.equal(seen.ended[0].code, "not_found");
  assert.equal(session.ended.code, "not_found");
  assert.equal(client.sessions.size, 0);
  assert.equal((await outcome(session.send("x"))).error.code, "not_found");
  assert.equal((await outcome(session.history())).error.code, "not_found");
  assert.deepEqual(client.states, ["online"]);
});

test("a retryable refusal is tried again until it succeeds", async () => {
  const world = new World();
  const { client } = await world.online();
  world.gateway.session("s2");
  let refusals = 3;
  world.gateway.intercept = (socket, frame) => {
    if (frame.type === "attach" && refusals > 0) {
      refusals -= 1;
      socket.deliver({ type: "error", id: frame.id, code: "unavailable", message: "", retryable: true, retry_after_ms: 1000 });
      return true;
    }
    return false;
  };
  const session = client.attach("s2", { since: 0 });
  await world.clock.advance(900);
  assert.equal(refusals, 2);
  await world.clock.advance(6000);
  assert.equal(session.live, true);
});

test("a listed session that gets no answer is asked for again", async () => {
  const world = new World();
  world.gateway.session("s1");
  const handled = world.gateway.on_hello;
  world.gateway.on_hello = function greet(socket, frame) {
    handled.call(this, socket, { ...frame, attach: [] });
  };
  const { session, socket } = await world.online();
  assert.equal(session.attached, false);
  await world.clock.advance(5100);
  assert.equal(socket.sentOf("attach").length, 1);
  assert.equal(session.live, true);
});

test("a hello stays below 4 KiB; what does not fit is attached after the welcome", async () => {
  const world = new World();
  const client = world.connect({ token: "t".repeat(1500) });
  const ids = Array.from({ length: 64 }, (_, index) => `0192aaaa-bbbb-7ccc-8ddd-eeeeeeee${1000 + index}`);
  const sessions = ids.map((id) => {
    world.gateway.session(id);
    return client.attach(id, { since: 0 });
  });
  await settle();
  assert.ok(JSON.stringify(world.socket.hello).length <= 4096);
  assert.ok(world.socket.hello.attach.length > 30);
  assert.ok(sessions.every((session) => session.live));
  assert.equal(world.socket.sentOf("attach").length, 64 - world.socket.hello.attach.length);
});

test("attach() of what is attached gives the same session", async () => {
  const world = new World();
  const { client, session } = await world.online();
  assert.equal(client.attach("s1", { since: 0 }), session);
});

test("open() gives a session that hears its first message", async () => {
  const world = new World();
  const { client } = await world.online();
  world.gateway.intercept = (socket, frame) => {
    if (frame.type === "open") {
      world.gateway.handle(socket, frame);
      world.gateway.post("opened-2", "welcome"); // in the same turn
      return true;
    }
    return false;
  };
  const heard = [];
  client.on("message", (message, session) => heard.push([message.content, session.title]));
  const session = await client.open({ title: "Talk", ttl: 60, metadata: { topic: "x" } });
  assert.equal(session.title, "Talk");
  assert.deepEqual(heard, [["welcome", "Talk"]]);
  const { title, ttl, metadata } = world.socket.sentOf("open")[0];
  assert.deepEqual({ title, ttl, metadata }, { title: "Talk", ttl: 60, metadata: { topic: "x" } });
  assert.equal(client.sessions.get(session.id), session);
});

test("open() is not repeated by itself when its answer is lost", async () => {
  const world = new World();
  const { client, socket } = await world.online();
  world.gateway.intercept = (_socket, frame) => frame.type === "open";
  const opening = assert.rejects(client.open(), { code: "connection_lost", retryable: true });
  await settle();
  socket.end();
  await opening;
});

test("detach() leaves, and a gateway that did not hear of it is told", async () => {
  const world = new World();
  const { client, session, seen, socket } = await world.online();
  const sending = session.send("unheard");
  socket.end();
  await session.detach();
  assert.equal(seen.ended[0].code, "detached");
  assert.equal((await outcome(sending)).error.code, "detached");
  await world.clock.advance(200);
  assert.deepEqual(world.socket.hello.attach, []);
  assert.equal(world.socket.sentOf("detach").length, 1); // the resume had taken it up
  world.gateway.post("s1", "for others");
  assert.deepEqual(seen.seqs.filter((seq) => seq > 1), []);
  const again = client.attach("s1", { since: 0 });
  await settle();
  assert.equal(again.live, true);
  await again.detach();
  assert.equal(world.socket.sentOf("detach").length, 2);
});

for (const [event, code] of [["closed", "closed"], ["expired", "expired"], ["deleted", "not_found"], ["superseded", "superseded"]]) {
  test(`the event ${event} ends the session and its unacked sends with ${code}`, async () => {
    const world = new World();
    const { client, session, seen, socket } = await world.online();
    socket.isDeaf = true;
    const sending = session.send("never");
    socket.deliver({ type: "session", session: "s1", event, version: 9, changes: {} });
    assert.deepEqual(seen.session, [{ event, version: 9, changes: {} }]);
    assert.equal(seen.ended[0].code, code);
    assert.equal((await outcome(sending)).error.code, code);
    assert.equal(session.state, event === "superseded" ? "active" : "closed");
    assert.equal(client.sessions.size, 0);
    socket.end();
    await world.clock.advance(200);
    assert.deepEqual(world.socket.hello.attach, []);
  });
}

test("who hears of the end may attach again at once", async () => {
  const world = new World();
  const { client, session, socket } = await world.online();
  let again = null;
  session.on("ended", () => {
    again = client.attach("s1");
  });
  socket.deliver({ type: "session", session: "s1", event: "superseded", version: 2 });
  await settle();
  assert.notEqual(again, session);
  assert.equal(again.live, true);
});

test("who hears right after a resume that somebody else has taken over does not attach again", async () => {
  const world = new World();
  const { client, seen, socket } = await world.online();
  socket.end();
  world.gateway.on_attach = (to, { session }) => {
    to.deliver({ type: "session", session, event: "superseded", version: 1 });
  };
  await world.clock.advance(200);
  assert.equal(world.socket.hello.resume, "resume-1");
  assert.deepEqual(seen.ended.map(({ code }) => code), ["superseded"]);
  assert.equal(client.sessions.size, 0);
  // Told once more, as it may be, and later than what a hello has listed is waited for.
  world.socket.deliver({ type: "session", session: "s1", event: "superseded", version: 1 });
  await world.clock.advance(10_000);
  assert.deepEqual(world.socket.sentOf("attach"), []);
  assert.equal(seen.ended.length, 1);
  world.socket.end();
  await world.clock.advance(2000);
  assert.deepEqual(world.socket.hello.attach, []);
});

test("updates of a session change its facts", async () => {
  const world = new World();
  const { session, seen, socket } = await world.online();
  socket.deliver({ type: "session", session: "s1", event: "updated", version: 4, changes: { title: "new", context: {} } });
  assert.equal(session.title, "new");
  assert.equal(session.version, 4);
  assert.equal(seen.session[0].changes.title, "new");
});
