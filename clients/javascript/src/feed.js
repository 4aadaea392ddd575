// The messages of a session as an async iterator, for a reader that may be slower than what arrives.

// What is held for a slow reader. At the bound nothing more is held: the rest is read from the history when it gets there.
const HELD_MESSAGES = 1000;
const HELD_CHARACTERS = 1024 * 1024;
const PAGE = 200;
const RETRY_MS = 1000;

export class Feed {
  #surroundings;
  #session;
  #held = [];
  #characters = 0;
  /** The highest seq held or given out. */
  #last;
  #isLagging = false;
  #isOver = false;
  #wake = null;
  #turn = Promise.resolve();
  #onMessage = (message) => this.#offer(message);
  #onEnded = () => this.#end();

  constructor(surroundings, session) {
    this.#surroundings = surroundings;
    this.#session = session;
    this.#last = session.cursor ?? 0;
    if (session.ended) {
      this.#isOver = true;
    } else {
      session.on("message", this.#onMessage).on("ended", this.#onEnded);
    }
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** Calls made at once are answered one after the other. */
  next() {
    const result = this.#turn.then(() => this.#next());
    this.#turn = result.catch(() => {});
    return result;
  }

  async return() {
    this.#end();
    this.#held = [];
    this.#isLagging = false;
    return { value: undefined, done: true };
  }

  #offer(message) {
    if (this.#isLagging || message.seq <= this.#last) {
      return;
    }
    if (this.#held.length >= HELD_MESSAGES || this.#characters >= HELD_CHARACTERS) {
      this.#isLagging = true;
      return;
    }
    this.#hold(message);
    this.#wake?.();
  }

  #hold(message) {
    this.#held.push(message);
    this.#characters += message.content.length;
    this.#last = message.seq;
  }

  async #next() {
    for (;;) {
      const message = this.#held.shift();
      if (message !== undefined) {
        this.#characters -= message.content.length;
        return { value: message, done: false };
      }
      if (this.#isLagging) {
        await this.#readOn();
      } else if (this.#isOver) {
        return { value: undefined, done: true };
      } else {
        await new Promise((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = null;
      }
    }
  }

  async #readOn() {
    try {
      const page = await this.#session.history({ after: this.#last, limit: PAGE });
      page.messages.filter((message) => message.seq > this.#last).forEach((message) => this.#hold(message));
      // Delivered meanwhile and not in this page? Then one more page is needed.
      this.#isLagging = this.#last < (this.#session.cursor ?? 0);
    } catch (error) {
      if (!error.retryable) {
        this.#end();
        throw error;
      }
      await new Promise((resolve) => {
        this.#surroundings.setTimeout(resolve, RETRY_MS);
      });
    }
  }

  #end() {
    this.#isOver = true;
    this.#session.off("message", this.#onMessage).off("ended", this.#onEnded);
    this.#wake?.();
  }
}
