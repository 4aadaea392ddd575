// How long to wait before trying again. Full jitter: clients that lost one node together must not come back together.

const FIRST_MS = 250;
const STEP_MS = 500;
const LONGEST_MS = 20_000;
const OVERLOADED_STEP_MS = 4000;
const OVERLOADED_LONGEST_MS = 60_000;

/** U(0, min(20 s, 0.5 s · 2ⁿ)) */
export function jitter(random, n) {
  return random() * Math.min(LONGEST_MS, STEP_MS * 2 ** n);
}

export class Backoff {
  #random;

  constructor(random) {
    this.#random = random;
    this.failures = 0;
  }

  /** Count a failure. patient: without the quick first try. longer: an overloaded gateway is spared, at least half the time. */
  next({ patient = false, longer = false } = {}) {
    const n = this.failures;
    this.failures += 1;
    if (longer) {
      const most = Math.min(OVERLOADED_LONGEST_MS, OVERLOADED_STEP_MS * 2 ** n);
      return most / 2 + (this.#random() * most) / 2;
    }
    if (n === 0 && !patient) {
      return this.#random() * FIRST_MS;
    }
    return jitter(this.#random, Math.max(1, n));
  }

  /** Count a failure after which the gateway has said when to come: it has a place then, and has spread its clients already. */
  told(ms) {
    this.failures += 1;
    return ms + this.#random() * FIRST_MS;
  }

  reset() {
    this.failures = 0;
  }
}
