import assert from "node:assert/strict";
import { test } from "node:test";
import { Delivery } from "../src/delivery.js";
import { random } from "./world/world.js";

const seqs = (messages) => messages.map(({ seq }) => seq);

test("what the cursor has is dropped", () => {
  const delivery = new Delivery(5);
  assert.deepEqual(delivery.take({ seq: 5 }), []);
  assert.deepEqual(delivery.take({ seq: 1 }), []);
  assert.deepEqual(seqs(delivery.take({ seq: 6 })), [6]);
  assert.deepEqual(delivery.take({ seq: 6 }), []);
});

test("a message that came too early waits for the one before it", () => {
  const delivery = new Delivery(0);
  assert.deepEqual(delivery.take({ seq: 2 }), []);
  assert.deepEqual(delivery.take({ seq: 3 }), []);
  assert.equal(delivery.hasHole, true);
  assert.deepEqual(seqs(delivery.take({ seq: 1 })), [1, 2, 3]);
  assert.equal(delivery.hasHole, false);
});

test("a new replay forgets what was held: it comes again", () => {
  const delivery = new Delivery(0);
  delivery.take({ seq: 3 });
  delivery.replayed(0);
  assert.deepEqual(seqs(delivery.take({ seq: 1 })), [1]);
  assert.equal(delivery.cursor, 1);
});

test("without a cursor the gateway's is taken, and else the first message", () => {
  const told = new Delivery(null);
  told.replayed(41);
  assert.equal(told.cursor, 41);
  const untold = new Delivery(null);
  assert.deepEqual(seqs(untold.take({ seq: 9 })), [9]);
});

test("it is behind while it knows of a higher head", () => {
  const delivery = new Delivery(3);
  assert.equal(delivery.isBehind, false);
  delivery.heard(4);
  assert.equal(delivery.isBehind, true);
  delivery.take({ seq: 4 });
  assert.equal(delivery.isBehind, false);
});

test("however two sockets mix, repeat and disorder them, each seq comes once and in order", () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const chance = random(seed);
    const delivery = new Delivery(0);
    const wire = Array.from({ length: 40 }, (_, index) => ({ seq: index + 1 }));
    const copies = [...wire, ...wire.slice(0, 20)]
      .map((message, index) => ({ message, place: (index % 40) + chance() * 6 }))
      .sort((a, b) => a.place - b.place);
    const delivered = copies.flatMap(({ message }) => delivery.take(message));
    assert.deepEqual(seqs(delivered), seqs(wire), `seed ${seed}`);
  }
});
