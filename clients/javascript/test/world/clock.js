// A clock that stands still until it is told to go on.

export class FakeClock {
  #timers = new Map();
  #count = 0;

  constructor() {
    this.now = 1_700_000_000_000;
  }

  setTimeout(callback, ms) {
    this.#count += 1;
    this.#timers.set(this.#count, { at: this.now + Math.max(0, ms), order: this.#count, callback });
    return this.#count;
  }

  clearTimeout(timer) {
    this.#timers.delete(timer);
  }

  clear() {
    this.#timers.clear();
  }

  get pending() {
    return this.#timers.size;
  }

  /** Let time pass; timers run in their order, each after everything that the one before it has set off. */
  async advance(ms) {
    const end = this.now + ms;
    await settle();
    for (;;) {
      const [id, timer] = [...this.#timers].sort(([, a], [, b]) => a.at - b.at || a.order - b.order)[0] ?? [];
      if (timer === undefined || timer.at > end) {
        break;
      }
      this.#timers.delete(id);
      this.now = timer.at;
      timer.callback();
      await settle();
    }
    this.now = end;
  }
}

/** Let every promise that can go on go on. */
export async function settle() {
  for (let turn = 0; turn < 3; turn += 1) {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}
