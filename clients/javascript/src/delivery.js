// The order of one session's messages: each seq after the cursor once, whichever socket brings it, however often.

// Messages held while an earlier one is missing. More than these are not worth keeping: attaching again brings them all.
const HELD_MESSAGES = 64;

export class Delivery {
  #held = new Map();

  /** cursor null: not known before the gateway tells it. */
  constructor(cursor) {
    this.cursor = cursor;
    this.head = cursor ?? 0;
  }

  /** What is due now that this message is here: nothing, it, or it and those that waited for it. */
  take(message) {
    this.heard(message.seq);
    this.cursor ??= message.seq - 1;
    if (message.seq <= this.cursor) {
      return [];
    }
    if (message.seq > this.cursor + 1) {
      if (this.#held.size < HELD_MESSAGES) {
        this.#held.set(message.seq, message);
      }
      return [];
    }
    const due = [];
    for (let next = message; next; next = this.#held.get(this.cursor + 1)) {
      this.#held.delete(next.seq);
      this.cursor = next.seq;
      due.push(next);
    }
    return due;
  }

  heard(head) {
    this.head = Math.max(this.head, head);
  }

  /** A new replay begins after `since`; what is held comes again with it. */
  replayed(since) {
    this.#held.clear();
    this.cursor ??= since;
    this.heard(this.cursor);
  }

  get hasHole() {
    return this.#held.size > 0;
  }

  get isBehind() {
    return this.cursor !== null && this.head > this.cursor;
  }
}
