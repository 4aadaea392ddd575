// Keeps every session that is wanted attached on the connection in charge: by the hello, else by requests of its own.

import { Attachment } from "./attachment.js";
import { jitter } from "./backoff.js";
import { byteLength } from "./surroundings.js";

// The gateway reads at most 4 KiB before it knows who is there; what does not fit is attached after the welcome.
const HELLO_BYTES = 4096;
const LISTED_MS = 5000;

export class Attachments {
  #surroundings;
  #services;
  #all = new Map();
  #listedTimer = null;

  /** services: current() → connection or null, nextId(), timeoutMs;
   *  events message, gap, attached, live, ended, settled, each with the attachment. */
  constructor(surroundings, services) {
    this.#surroundings = surroundings;
    this.#services = services;
  }

  get(id) {
    return this.#all.get(id);
  }

  add(id, since) {
    const attachment = new Attachment(this.#surroundings, id, since, {
      message: (message) => this.#services.message(attachment, message),
      gap: (gap) => {
        this.#services.gap(attachment, gap);
        this.attach(attachment);
      },
    });
    this.#all.set(id, attachment);
    return attachment;
  }

  remove(attachment) {
    attachment.rest();
    this.#all.delete(attachment.id);
    this.#services.settled();
  }

  /** End it for this client: it is not attached again. */
  end(attachment, error) {
    if (attachment.ended === null) {
      attachment.ended = error;
      this.remove(attachment);
      this.#services.ended(attachment, error);
    }
  }

  /** The delivered watermarks of a heartbeat. */
  seen() {
    const watermarks = {};
    for (const { id, delivery } of this.#all.values()) {
      if (delivery.cursor !== null) {
        watermarks[id] = delivery.cursor;
      }
    }
    return watermarks;
  }

  /** Complete a hello with as many references as it may carry. */
  greet(connection, hello) {
    const attach = [];
    let size = byteLength(JSON.stringify({ ...hello, attach }));
    for (const { reference } of this.#all.values()) {
      size += byteLength(JSON.stringify(reference)) + 1;
      if (size > HELLO_BYTES) {
        break;
      }
      attach.push(reference);
      connection.listed.add(reference.session);
    }
    return { ...hello, attach };
  }

  welcomed(connection) {
    for (const attachment of this.#all.values()) {
      attachment.rest();
      if (!connection.listed.has(attachment.id)) {
        this.attach(attachment);
      }
    }
    this.#surroundings.clearTimeout(this.#listedTimer);
    this.#listedTimer = this.#surroundings.setTimeout(() => this.#attachForgotten(connection), LISTED_MS);
  }

  /** No connection is in charge: nothing will arrive. */
  lost() {
    this.#surroundings.clearTimeout(this.#listedTimer);
    for (const attachment of this.#all.values()) {
      attachment.rest();
    }
  }

  /** Everything wanted is caught up on this connection. */
  isSettled(connection) {
    return [...this.#all.keys()].every((id) => connection.live.has(id));
  }

  /** Ask for it on the connection in charge, from the cursor; without one the next welcome will. */
  async attach(attachment) {
    const connection = this.#services.current();
    if (connection === null || connection.asking.has(attachment.id)) {
      return;
    }
    connection.asking.add(attachment.id);
    connection.live.delete(attachment.id);
    const request = { type: "attach", id: this.#services.nextId(), ...attachment.reference };
    try {
      await connection.request(request, { timeoutMs: this.#services.timeoutMs });
    } catch (error) {
      connection.asking.delete(attachment.id);
      this.refused(connection, attachment, error);
      return;
    }
    connection.asking.delete(attachment.id);
  }

  confirmed(connection, attachment, frame) {
    connection.attached.add(attachment.id);
    connection.live.delete(attachment.id);
    attachment.confirmed(frame);
    if (connection === this.#services.current()) {
      this.#services.attached(attachment);
    }
  }

  caughtUp(connection, attachment, seq) {
    attachment.delivery.heard(seq);
    connection.live.add(attachment.id);
    if (connection === this.#services.current()) {
      this.#services.live(attachment, seq);
    }
  }

  refused(connection, attachment, error) {
    if (attachment.ended !== null || connection !== this.#services.current()) {
      return;
    }
    if (!error.retryable) {
      this.end(attachment, error);
      return;
    }
    const delayOf = (failures) => Math.max(jitter(this.#surroundings.random, failures), error.retryAfterMs ?? 0);
    attachment.retryIn(delayOf, () => this.attach(attachment));
  }

  /** What was listed in the hello and has had no answer. */
  #attachForgotten(connection) {
    if (connection !== this.#services.current()) {
      return;
    }
    for (const attachment of this.#all.values()) {
      if (connection.listed.has(attachment.id) && !connection.attached.has(attachment.id)) {
        this.attach(attachment);
      }
    }
  }
}
