// One session as the page sees it. What keeps it attached is behind `services`.

import { Emitter } from "./emitter.js";
import { GatewayError } from "./errors.js";
import { Feed } from "./feed.js";
import { messageFrom } from "./shapes.js";

export class Session extends Emitter {
  #attachment;
  #services;

  constructor(attachment, services) {
    super();
    this.#attachment = attachment;
    this.#services = services;
    this.ready = new Promise((resolve, reject) => {
      this.once("attached", resolve);
      this.once("ended", reject);
    });
    // "ended" tells it too.
    this.ready.catch(() => {});
  }

  get id() {
    return this.#attachment.id;
  }

  get title() {
    return this.#attachment.facts.title;
  }

  get role() {
    return this.#attachment.facts.role;
  }

  get state() {
    return this.#attachment.facts.state;
  }

  get epoch() {
    return this.#attachment.facts.epoch;
  }

  get version() {
    return this.#attachment.facts.version;
  }

  get cursor() {
    return this.#attachment.delivery.cursor;
  }

  get head() {
    return this.#attachment.delivery.head;
  }

  get attached() {
    return this.#services.current()?.attached.has(this.id) ?? false;
  }

  get live() {
    return this.#services.current()?.live.has(this.id) ?? false;
  }

  get ended() {
    return this.#attachment.ended;
  }

  get pending() {
    return this.#services.pending().filter((entry) => entry.session === this.id);
  }

  messages() {
    return new Feed(this.#services.surroundings, this);
  }

  send(content, options = {}) {
    return this.#services.send(this.#attachment, content, options);
  }

  async history({ before, after, limit } = {}) {
    const answer = await this.#request({ type: "history", session: this.id, before, after, limit }, { again: true });
    const messages = answer.messages.map((message) => messageFrom(message, this.id));
    return { messages, head: answer.head, more: answer.more === true };
  }

  read(seq) {
    this.#services.read(this.#attachment, seq);
  }

  signal(name, data = {}) {
    const frame = { type: "signal", session: this.id, name, data };
    const connection = this.#services.serving(this.id);
    return (connection?.attached.has(this.id) ?? false) && connection.fits(frame) && connection.send(frame);
  }

  async presence() {
    const answer = await this.#request({ type: "presence", session: this.id }, { again: true });
    return answer.users;
  }

  async update(change) {
    const answer = await this.#request({ ...change, type: "update", session: this.id });
    this.#attachment.changed(change, answer.version);
    return { version: answer.version };
  }

  async close() {
    try {
      await this.#request({ type: "close", session: this.id }, { again: true });
    } catch (error) {
      // A first try may have succeeded without its answer.
      if (error.code !== "closed") {
        throw error;
      }
    }
    this.#services.end(this.#attachment, new GatewayError("closed", "the session was ended"));
  }

  detach() {
    return this.#services.detach(this.#attachment);
  }

  async #request(frame, options) {
    if (this.ended) {
      throw this.ended;
    }
    return this.#services.request(frame, options);
  }
}
