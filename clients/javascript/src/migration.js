// The move to another node: the second socket is open and caught up before the first is closed.

import { closing } from "./closing.js";

const RETRY_MS = 1000;
const NODE_LEAVING = 4000;

export class Migration {
  #surroundings;
  #frame;
  #actions;
  #timer = null;
  #deadlineTimer = null;
  /** Tried once. Who cannot get there goes where it would have gone without being told. */
  #named;

  /** actions: open(named url or null) → Promise<Connection>, settled(connection) → boolean, over(). */
  constructor(surroundings, first, frame, actions) {
    this.#surroundings = surroundings;
    this.#frame = frame;
    this.#named = frame.url ?? null;
    this.#actions = actions;
    this.first = first;
    this.second = null;
    this.isOver = false;
  }

  start() {
    const { slot_ms: slotMs = 0, deadline_ms: deadlineMs = 30_000 } = this.#frame;
    this.#timer = this.#surroundings.setTimeout(() => this.#open(), slotMs);
    this.#deadlineTimer = this.#surroundings.setTimeout(() => this.#expire(), deadlineMs);
  }

  /** Whether this connection is being left: what it says of its own end is no news. */
  leaves(connection) {
    return connection === this.first && this.second !== null;
  }

  /** Close the first as soon as nothing is left to do on it. */
  check() {
    if (!this.isOver && this.#isMoved && this.first.isIdle && this.#actions.settled(this.second)) {
      this.end();
      this.first.close();
    }
  }

  /** One of the two is gone. True: the move goes on, there is nothing else to do. */
  closed(connection, code) {
    if (connection === this.second) {
      return this.#secondClosed();
    }
    if (connection !== this.first) {
      return false;
    }
    const second = this.second;
    this.end();
    if (second?.state === "open") {
      return true;
    }
    if (second === null || !this.#mayGoOn(code)) {
      second?.drop(1000, "");
      return false;
    }
    this.#actions.adopt(second, code);
    return true;
  }

  end() {
    this.isOver = true;
    this.#surroundings.clearTimeout(this.#timer);
    this.#surroundings.clearTimeout(this.#deadlineTimer);
    this.#actions.over();
  }

  get #isMoved() {
    return this.second?.state === "open";
  }

  async #open() {
    try {
      const second = await this.#actions.open(this.#named);
      if (this.isOver) {
        return;
      }
      this.#named = null;
      this.second = second.connection;
      second.start();
    } catch {
      // The token provider failed. The first connection is still good: try again until the deadline.
      this.#openLater();
    }
  }

  /** At once or a little later; not before the gateway has a place, where it has said so. */
  #openLater(retryAfterMs = 0) {
    if (!this.isOver) {
      const delayMs = retryAfterMs + this.#surroundings.random() * RETRY_MS;
      this.#timer = this.#surroundings.setTimeout(() => this.#open(), delayMs);
    }
  }

  #secondClosed() {
    if (this.second.welcome === null) {
      const retryAfterMs = this.second.lastError?.retryAfterMs ?? 0;
      this.second = null;
      this.#openLater(retryAfterMs);
      return true;
    }
    // It was already in charge. Its loss is a loss like any other, and the first has handed over.
    this.end();
    this.first.close();
    return false;
  }

  #expire() {
    const { first, second } = this;
    if (this.#isMoved) {
      this.end();
      first.close();
      return;
    }
    // No second connection in time: lose the first in the ordinary way and resume.
    this.second = null;
    second?.drop(1000, "");
    first.drop(NODE_LEAVING, "the move came too late");
  }

  #mayGoOn(code) {
    // 1000 and 1001 end a conversation, but the gateway may close like that what has been handed over to the second.
    return closing(code).reconnect || code === 1000 || code === 1001;
  }
}
