// Everything at once: sockets die, acks and frames are lost, nodes ask to move, sends are refused. The same seed makes the
// same run; SOAK_SEEDS=1000 makes a long one.

import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeStorage, World, random, record } from "./world/world.js";

const SEEDS = Number(process.env.SOAK_SEEDS ?? 40);
const ROUNDS = 60;

class Faults {
  constructor(world, chance) {
    this.world = world;
    this.chance = chance;
    this.areOver = false;
    world.gateway.loseAck = () => this.strikes(0.1);
    world.gateway.intercept = (socket, frame) => this.refuses(socket, frame);
    world.network.opened = (socket) => (this.strikes(0.2) ? socket.end() : socket.accept());
  }

  strikes(probability) {
    return !this.areOver && this.chance() < probability;
  }

  refuses(socket, frame) {
    if (frame.type === "send" && this.strikes(0.1)) {
      socket.deliver({ type: "error", id: frame.id, code: "unavailable", message: "", retryable: true, retry_after_ms: 50 });
      return true;
    }
    return frame.type === "send" && this.strikes(0.05); // lost on the way
  }

  /** Something happens to the newest socket. */
  strike() {
    const { socket, gateway } = this.world;
    const connection = gateway.connections.get(socket);
    if (this.strikes(0.1)) {
      socket.end([1006, 4000, 4003, 1011][Math.floor(this.chance() * 4)]);
    } else if (this.strikes(0.1)) {
      socket.deliver({ type: "migrate", slot_ms: this.chance() * 500, deadline_ms: 3000, url: null });
    } else if (connection && this.strikes(0.05)) {
      connection.cursors.set("s1", -1); // a subscription gone deaf
    } else if (this.strikes(0.05)) {
      gateway.resumes.clear();
    } else if (connection && this.strikes(0.05)) {
      const { messages } = gateway.session("s1");
      messages.slice(-5).reverse().forEach((message) => socket.deliver(message));
    }
  }
}

async function run(seed) {
  const world = new World();
  const chance = random(seed);
  world.chance = chance;
  world.gateway.session("s1");
  const storage = new FakeStorage();
  let client = world.connect({ storage });
  let session = client.attach("s1", { since: 0 });
  let seen = record(session);
  const faults = new Faults(world, chance);
  const acked = [];
  let sent = 0;
  await world.clock.advance(1000);
  for (let round = 0; round < ROUNDS; round += 1) {
    if (faults.strikes(0.03)) {
      world.unload();
      client = world.connect({ storage });
      session = client.attach("s1", { since: 0 });
      seen = record(session);
    }
    for (let burst = chance() * 3; burst > 0; burst -= 1) {
      sent += 1;
      session.send(`mine ${sent}`).then(({ seq }) => acked.push(seq), () => {});
    }
    if (chance() < 0.5) {
      world.gateway.post("s1", `theirs ${round}`);
    }
    faults.strike();
    await world.clock.advance(chance() * 400);
  }
  faults.areOver = true;
  await world.clock.advance(200_000);
  return { world, client, seen, acked, sent };
}

for (let seed = 1; seed <= SEEDS; seed += 1) {
  test(`nothing lost, nothing twice, nothing out of order: seed ${seed}`, async () => {
    const { world, client, seen, acked, sent } = await run(seed);
    const { messages } = world.gateway.session("s1");
    assert.equal(client.state.name, "online");
    assert.deepEqual(client.pending, []);
    assert.deepEqual(seen.seqs, messages.map(({ seq }) => seq));
    const mine = messages.filter(({ sender }) => sender === "alice");
    assert.deepEqual(mine.map(({ content }) => content), Array.from({ length: sent }, (_, n) => `mine ${n + 1}`));
    const stored = new Set(mine.map(({ seq }) => seq));
    assert.ok(acked.every((seq) => stored.has(seq)));
    assert.equal(world.network.sockets.filter(({ readyState }) => readyState === 1).length, 1);
    client.close();
    assert.equal(world.clock.pending, 0);
  });
}
