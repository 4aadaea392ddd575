// One send on its way: the entry that the page sees, the promise it waits for, and where it is now.

import { byteLength } from "./surroundings.js";

export class Shipment {
  #resolve;
  #reject;

  constructor({ session, id, content, role, metadata, createdAt }) {
    const entry = { session, id, content, role, metadata, createdAt };
    this.entry = Object.assign(entry, { state: "sending", attempts: 0, seq: null, ts: null, error: null });
    this.bytes = byteLength(content) + byteLength(JSON.stringify(metadata));
    /** The connection it was sent on and not yet answered; null while it waits. */
    this.connection = null;
    this.timer = null;
    this.refusals = 0;
    this.isRestored = false;
    this.sending = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.sending.entry = this.entry;
    // A page that watches the entries and not the promises must not be told of unhandled rejections.
    this.sending.catch(() => {});
  }

  get frame() {
    const { session, id, content, role, metadata } = this.entry;
    return { type: "send", id, session, content, role, metadata };
  }

  isSame({ session, content, role, metadata }) {
    const { entry } = this;
    return (
      entry.session === session &&
      entry.content === content &&
      entry.role === role &&
      JSON.stringify(entry.metadata) === JSON.stringify(metadata)
    );
  }

  acked({ seq, ts, duplicate = false }) {
    Object.assign(this.entry, { state: "sent", seq, ts });
    this.#resolve({ seq, ts, duplicate });
  }

  failed(error) {
    Object.assign(this.entry, { state: "failed", error });
    this.#reject(error);
  }
}
