// Sends on their way: resent with the same id until acked or refused for good, each session's in the order they were made.

import { jitter } from "./backoff.js";
import { GatewayError } from "./errors.js";
import { Shipment } from "./shipment.js";

export class Outbox {
  #surroundings;
  #bounds;
  #shelf;
  #services;
  /** By id, oldest first. */
  #shipments = new Map();
  #lanes = new Map();
  #bytes = 0;
  #owner;

  /** bounds: {entries, bytes, window}. services: carrier(session) → the connection that may take sends of it or null,
   *  ackTimeoutMs, changed(entry), unattached(session). */
  constructor(surroundings, bounds, shelf, services) {
    this.#surroundings = surroundings;
    this.#bounds = bounds;
    this.#shelf = shelf;
    this.#services = services;
    const { user, tenant, entries } = shelf.load();
    this.#owner = { user, tenant };
    for (const entry of entries) {
      const shipment = new Shipment(entry);
      shipment.isRestored = true;
      this.#admit(shipment);
    }
  }

  get entries() {
    return Array.from(this.#shipments.values(), (shipment) => shipment.entry);
  }

  /** Take a send; the promise it returns carries its entry. */
  add(session, content, { role = "user", metadata = {}, id = this.#surroundings.newId() } = {}) {
    const draft = { session, id, content, role, metadata, createdAt: this.#surroundings.now() };
    const under = this.#shipments.get(id);
    if (under?.isSame(draft)) {
      return under.sending;
    }
    const shipment = new Shipment(draft);
    const refusal = this.#refusalOf(shipment);
    if (refusal) {
      shipment.failed(refusal);
      this.#services.changed(shipment.entry);
      return shipment.sending;
    }
    this.#admit(shipment);
    this.#keep();
    this.#services.changed(shipment.entry);
    this.flush(session);
    return shipment.sending;
  }

  /** Send what may be sent of this session now. */
  flush(session) {
    const lane = this.#lanes.get(session);
    const connection = this.#services.carrier(session);
    if (lane === undefined || lane.timer !== null || connection === null) {
      return;
    }
    // A snapshot: a refusal by size takes its shipment out of the lane.
    for (const shipment of lane.shipments.slice(0, lane.isCautious ? 1 : this.#bounds.window)) {
      if (shipment.connection === null) {
        this.#transmit(shipment, connection);
      }
    }
  }

  acked(frame) {
    const shipment = this.#shipments.get(frame.id);
    // Whichever connection brings it: committed is committed.
    if (shipment !== undefined && shipment.entry.session === frame.session) {
      this.#lanes.get(frame.session).isCautious = false;
      this.#remove(shipment);
      shipment.acked(frame);
      this.#services.changed(shipment.entry);
      this.flush(frame.session);
    }
  }

  /** True when the error was about a send. */
  refused(connection, id, error) {
    const shipment = this.#shipments.get(id);
    if (shipment === undefined || shipment.connection !== connection) {
      return shipment !== undefined;
    }
    const { session } = shipment.entry;
    if (error.retryable || error.code === "not_attached") {
      this.#hold(shipment, error);
      if (error.code === "not_attached") {
        this.#services.unattached(session);
      }
    } else {
      this.#fail(shipment, error);
      this.flush(session);
    }
    return true;
  }

  /** What was under way on other connections than this one is to be sent again. */
  moved(connection) {
    for (const shipment of this.#shipments.values()) {
      if (shipment.connection !== null && shipment.connection !== connection) {
        this.#recall(shipment);
      }
    }
  }

  /** Whose sends these are is known now. Those that another user left in the storage must not go out in this one's name. */
  identified(user, tenant) {
    const { user: earlier, tenant: earlierTenant } = this.#owner;
    this.#owner = { user, tenant };
    if (earlier !== null && (earlier !== user || earlierTenant !== tenant)) {
      const strange = [...this.#shipments.values()].filter((shipment) => shipment.isRestored);
      for (const shipment of strange) {
        this.#fail(shipment, new GatewayError("forbidden", "this was written by another user"));
      }
    }
    this.#keep();
  }

  /** Refuse everything of a session, or everything there is. */
  fail(error, session = null) {
    for (const shipment of [...this.#shipments.values()]) {
      if (session === null || shipment.entry.session === session) {
        this.#fail(shipment, error);
      }
    }
  }

  /** Reject what waits, but leave it in the storage for the next client. */
  abandon(error) {
    const shelf = this.#shelf;
    const record = this.#record(this.entries);
    this.#shelf = null;
    shelf.keep(() => record);
    this.fail(error);
  }

  #refusalOf(shipment) {
    if (this.#shipments.has(shipment.entry.id)) {
      return new GatewayError("id_conflict", "another send with this id is under way");
    }
    if (this.#shipments.size >= this.#bounds.entries || this.#bytes + shipment.bytes > this.#bounds.bytes) {
      return new GatewayError("queue_full", "too many messages wait to be sent", true);
    }
    return null;
  }

  #admit(shipment) {
    const { session, id } = shipment.entry;
    const lane = this.#lanes.get(session) ?? { shipments: [], timer: null, heldUntil: 0, isCautious: false };
    lane.shipments.push(shipment);
    this.#lanes.set(session, lane);
    this.#shipments.set(id, shipment);
    this.#bytes += shipment.bytes;
  }

  #transmit(shipment, connection) {
    const { frame } = shipment;
    if (!connection.fits(frame)) {
      this.#fail(shipment, new GatewayError("too_large", "the message is too large"));
      this.flush(shipment.entry.session);
      return;
    }
    shipment.connection = connection;
    shipment.entry.attempts += 1;
    shipment.timer = this.#surroundings.setTimeout(() => {
      // The connection lives and the ack is missing: the same id again cannot do harm.
      this.#recall(shipment);
      this.flush(shipment.entry.session);
    }, this.#services.ackTimeoutMs);
    connection.send(frame);
  }

  /** Try again later, and nothing of the session before it: what follows would overtake it. */
  #hold(shipment, error) {
    const { session } = shipment.entry;
    const lane = this.#lanes.get(session);
    this.#recall(shipment);
    lane.isCautious = true;
    shipment.refusals += 1;
    const now = this.#surroundings.now();
    const delayMs = Math.max(jitter(this.#surroundings.random, shipment.refusals), error.retryAfterMs ?? 0);
    lane.heldUntil = Math.max(lane.heldUntil, now + delayMs);
    this.#surroundings.clearTimeout(lane.timer);
    lane.timer = this.#surroundings.setTimeout(() => {
      lane.timer = null;
      this.flush(session);
    }, lane.heldUntil - now);
  }

  #recall(shipment) {
    this.#surroundings.clearTimeout(shipment.timer);
    shipment.connection = null;
  }

  #fail(shipment, error) {
    this.#remove(shipment);
    shipment.failed(error);
    this.#services.changed(shipment.entry);
  }

  #remove(shipment) {
    const { session, id } = shipment.entry;
    const lane = this.#lanes.get(session);
    this.#recall(shipment);
    this.#shipments.delete(id);
    this.#bytes -= shipment.bytes;
    lane.shipments = lane.shipments.filter((other) => other !== shipment);
    if (lane.shipments.length === 0) {
      this.#surroundings.clearTimeout(lane.timer);
      this.#lanes.delete(session);
    }
    this.#keep();
  }

  #keep() {
    this.#shelf?.keep(() => this.#record(this.entries));
  }

  #record(entries) {
    const drafts = entries.map(({ session, id, content, role, metadata, createdAt }) => ({
      session, id, content, role, metadata, createdAt,
    }));
    return { ...this.#owner, entries: drafts };
  }
}
