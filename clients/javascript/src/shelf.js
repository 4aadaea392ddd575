// Unacked sends in a storage that outlives the page.

import { GatewayError } from "./errors.js";

export class Shelf {
  #storage;
  #key;
  #failed;
  #current = null;

  /** failed(error) is told when the storage refuses. */
  constructor(storage, key, failed) {
    this.#storage = storage;
    this.#key = key;
    this.#failed = failed;
  }

  /** {user, tenant, entries}: what was kept last. */
  load() {
    try {
      const { user = null, tenant = null, entries = [] } = JSON.parse(this.#storage?.getItem(this.#key) ?? "{}");
      return { user, tenant, entries: entries.filter((entry) => typeof entry?.content === "string") };
    } catch (error) {
      this.#report(error);
      return { user: null, tenant: null, entries: [] };
    }
  }

  /** Write what `current()` gives at the end of this turn: a burst of sends is one write, and no page is unloaded in between. */
  keep(current) {
    if (!this.#storage) {
      return;
    }
    if (this.#current === null) {
      queueMicrotask(() => this.#write());
    }
    this.#current = current;
  }

  #write() {
    const current = this.#current;
    this.#current = null;
    try {
      this.#storage.setItem(this.#key, JSON.stringify(current()));
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error) {
    // Later, because load() runs before anybody can listen.
    queueMicrotask(() => this.#failed(new GatewayError("storage", `unacked sends are not kept: ${error?.message ?? error}`)));
  }
}
