import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/backoff.js";

const most = () => 1;
const none = () => 0;

test("the first try comes within 250 ms, the others within twice as long each time, never above 20 s", () => {
  const backoff = new Backoff(most);
  const waits = Array.from({ length: 9 }, () => backoff.next());
  assert.deepEqual(waits, [250, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000]);
});

test("full jitter: every wait may be next to nothing", () => {
  const backoff = new Backoff(none);
  assert.deepEqual(Array.from({ length: 5 }, () => backoff.next()), [0, 0, 0, 0, 0]);
});

test("after health the count begins anew", () => {
  const backoff = new Backoff(most);
  backoff.next();
  backoff.next();
  backoff.reset();
  assert.equal(backoff.next(), 250);
});

test("patience skips the quick first try", () => {
  assert.equal(new Backoff(most).next({ patient: true }), 1000);
});

test("an overloaded gateway is spared longer, and at least half of it", () => {
  const longest = new Backoff(most);
  const shortest = new Backoff(none);
  const waits = (backoff) => Array.from({ length: 6 }, () => backoff.next({ longer: true }));
  assert.deepEqual(waits(longest), [4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  assert.deepEqual(waits(shortest), [2000, 4000, 8000, 16_000, 30_000, 30_000]);
});
