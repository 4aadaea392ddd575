// What this client knows of one session it reads: the facts, the cursor, and the watch over what should arrive and does not.

import { Delivery } from "./delivery.js";

// A hole is most often two frames that overtook each other during a move; then it closes by itself at once.
const HOLE_MS = 200;
// A head in a heartbeat may be ahead of a message that is on its way.
const BEHIND_MS = 3000;
const LONGEST_WATCH_MS = 30_000;

export class Attachment {
  #surroundings;
  #events;
  #watch = null;
  #stalls = 0;
  #failures = 0;
  #readSeq = 0;
  #retryTimer = null;

  /** events: message(message), gap({cursor, head}). */
  constructor(surroundings, id, since, events) {
    this.#surroundings = surroundings;
    this.#events = events;
    this.id = id;
    this.delivery = new Delivery(since);
    this.facts = { title: null, role: null, state: null, epoch: null, version: null };
    /** What the page holds of it. */
    this.session = null;
    this.ended = null;
  }

  /** The reference to it in a hello or attach. */
  get reference() {
    const { cursor } = this.delivery;
    return cursor === null ? { session: this.id } : { session: this.id, since: cursor };
  }

  /** The marker to tell the gateway again after a reconnect; 0: none. */
  get readSeq() {
    return this.#readSeq;
  }

  /** True when the marker moves. */
  markRead(seq) {
    const moves = seq > this.#readSeq;
    this.#readSeq = Math.max(seq, this.#readSeq);
    return moves;
  }

  confirmed(frame) {
    this.#failures = 0;
    this.#stopRetrying();
    this.#stopWatching();
    for (const fact of Object.keys(this.facts)) {
      this.facts[fact] = frame[fact] ?? this.facts[fact];
    }
    this.delivery.replayed(frame.since ?? frame.head);
    this.delivery.heard(frame.head);
  }

  message(message) {
    const due = this.delivery.take(message);
    if (due.length > 0) {
      this.#stalls = 0;
    }
    for (const each of due) {
      this.#events.message(each);
    }
    if (this.delivery.hasHole || this.#watch !== null) {
      this.#look();
    }
  }

  /** The gateway knows of messages up to head. */
  heard(head) {
    this.delivery.heard(head);
    this.#look();
  }

  changed(changes, version) {
    this.facts.version = version ?? this.facts.version;
    if (typeof changes.title === "string") {
      this.facts.title = changes.title;
    }
    if (typeof changes.state === "string") {
      this.facts.state = changes.state;
    }
  }

  /** Count a refusal that may be tried again, and call `again` later. */
  retryIn(delayOf, again) {
    this.#stopRetrying();
    this.#failures += 1;
    this.#retryTimer = this.#surroundings.setTimeout(() => {
      this.#retryTimer = null;
      again();
    }, delayOf(this.#failures));
  }

  /** Nothing will arrive any more on the connection that was. */
  rest() {
    this.#stopWatching();
    this.#stopRetrying();
  }

  #stopRetrying() {
    this.#surroundings.clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
  }

  #stopWatching() {
    this.#surroundings.clearTimeout(this.#watch?.timer);
    this.#watch = null;
  }

  #look() {
    const { hasHole, isBehind, cursor } = this.delivery;
    if (!hasHole && !isBehind) {
      this.#stopWatching();
      return;
    }
    if (this.#watch !== null && (this.#watch.hasHole || !hasHole)) {
      return;
    }
    this.#stopWatching();
    // Twice as patient each time it did not help: a gateway that is slow must not be asked for everything again and again.
    const ms = Math.min(LONGEST_WATCH_MS, (hasHole ? HOLE_MS : BEHIND_MS) * 2 ** this.#stalls);
    this.#watch = { hasHole, timer: this.#surroundings.setTimeout(() => this.#waited(cursor), ms) };
  }

  #waited(cursorThen) {
    this.#watch = null;
    const { cursor, head, hasHole, isBehind } = this.delivery;
    if (cursor !== cursorThen) {
      this.#look();
    } else if (hasHole || isBehind) {
      this.#stalls += 1;
      this.#events.gap({ cursor, head });
    }
  }
}
