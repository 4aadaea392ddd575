// The messages on their way, below the newest one: each is here until the session has it.

import { byId, show } from "./dom.js";
import { outgoingView } from "./message_view.js";

export class Outbound {
  #list = byId("waiting");
  #conversation = null;
  #stops = [];
  #shown = new Map();

  open(conversation) {
    for (const stop of this.#stops) stop();
    this.#conversation = conversation;
    this.#shown.clear();
    this.#list.replaceChildren();
    this.#stops = conversation ? [conversation.on("outgoing", () => this.#render())] : [];
    if (conversation) this.#render();
    else show(this.#list, false);
  }

  #render() {
    const { outgoing } = this.#conversation;
    for (const [id, { row }] of this.#shown) {
      if (outgoing.has(id)) continue;
      row.remove();
      this.#shown.delete(id);
    }
    let previous = this.#conversation.messages.at(-1);
    for (const entry of outgoing.values()) {
      const shown = this.#shown.get(entry.id);
      if (shown?.state !== entry.state) this.#place(entry, shown, previous);
      previous = { sender: this.#conversation.me, role: entry.role, at: entry.createdAt };
    }
    show(this.#list, outgoing.size > 0);
  }

  #place(entry, shown, previous) {
    const conversation = this.#conversation;
    const row = outgoingView(entry, previous, conversation.me, {
      onRetry: () => conversation.retry(entry),
      onDiscard: () => conversation.discard(entry),
    });
    if (shown) shown.row.replaceWith(row);
    else this.#list.append(row);
    this.#shown.set(entry.id, { row, state: entry.state });
  }
}
