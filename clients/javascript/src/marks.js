// Read markers on their way. A page marks every message it shows; the gateway needs the last one, a few times a second.

const GATHER_MS = 250;

export class Marks {
  #surroundings;
  #send;
  #due = new Set();
  #timer = null;

  /** send(attachment) puts its marker on the wire if it can. */
  constructor(surroundings, send) {
    this.#surroundings = surroundings;
    this.#send = send;
  }

  add(attachment, seq) {
    if (!attachment.markRead(seq)) {
      return;
    }
    this.#due.add(attachment);
    this.#timer ??= this.#surroundings.setTimeout(() => this.flush(), GATHER_MS);
  }

  /** Tell the gateway again: it may not have heard the marker on the connection that was lost. */
  repeat(attachment) {
    this.#due.delete(attachment);
    this.#send(attachment);
  }

  flush() {
    this.#surroundings.clearTimeout(this.#timer);
    this.#timer = null;
    const due = [...this.#due];
    this.#due.clear();
    due.forEach(this.#send);
  }
}
