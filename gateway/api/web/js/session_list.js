// The list of sessions: titles, the last words, times, what is unread. Links, so that they behave like links.

import { briefly, fully, iso } from "./dates.js";
import { byId, make, say, show } from "./dom.js";
import { memory } from "./memory.js";

// Below this a search field is more to look at than the list itself.
const FIND_FROM = 8;

export class SessionList {
  #conversations;
  #active = byId("session-list");
  #archived = byId("archive-list");
  #find = byId("find");
  #rows = new Map();

  constructor(conversations) {
    this.#conversations = conversations;
    this.#find.addEventListener("input", () => this.render());
    for (const list of [this.#active, this.#archived]) {
      list.addEventListener("keydown", (event) => this.#onKey(event, list));
    }
    // Yesterday's times are not today's.
    setInterval(() => this.render(), 60_000);
  }

  /** Bring the list up to date. */
  render() {
    const all = this.#conversations.sorted;
    const wanted = this.#find.value.trim().toLowerCase();
    const found = all.filter((one) => wanted === "" || one.name.toLowerCase().includes(wanted));
    const active = found.filter((one) => !one.isArchived);
    const archived = found.filter((one) => one.isArchived);
    this.#forgetOthers(new Set(found));
    this.#arrange(this.#active, active);
    this.#arrange(this.#archived, archived);

    const { isKnown, hasMore } = this.#conversations;
    show(byId("find-row"), all.length >= FIND_FROM || wanted !== "");
    show(byId("list-empty"), isKnown && all.length === 0);
    show(byId("list-nothing"), all.length > 0 && found.length === 0);
    show(byId("list-more"), hasMore && wanted === "");
    show(byId("archive"), archived.length > 0);
    say(byId("archive-count"), String(archived.length));
  }

  /** The session before or after the open one, in the order shown. */
  neighbour(step) {
    const order = this.#conversations.sorted.filter((one) => !one.isArchived);
    const index = order.indexOf(this.#conversations.current);
    if (index < 0) return order[step > 0 ? 0 : order.length - 1] ?? null;
    return order[index + step] ?? null;
  }

  focusFind() {
    if (byId("find-row").hidden) (this.#active.querySelector("a") ?? byId("new-session")).focus();
    else this.#find.select();
  }

  /** Focus the row of a session, where it is shown. */
  focusRow(id) {
    this.#rows.get(id)?.link.focus();
  }

  #forgetOthers(kept) {
    for (const [id, row] of this.#rows) {
      if (kept.has(row.conversation)) continue;
      row.item.remove();
      this.#rows.delete(id);
    }
  }

  // Moving an element takes the focus from it: move only what is not in place, and give the focus back.
  #arrange(list, conversations) {
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    conversations.forEach((conversation, index) => {
      const row = this.#row(conversation);
      if (list.children[index] !== row.item) list.insertBefore(row.item, list.children[index] ?? null);
      this.#fill(row);
    });
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  }

  #row(conversation) {
    let row = this.#rows.get(conversation.id);
    if (!row) {
      const title = make("span", { class: "row-title" });
      const time = make("time", { class: "row-time" });
      const preview = make("span", { class: "row-preview" });
      const unread = make("span", { class: "row-unread" });
      const link = make("a", { class: "row", href: `#${conversation.id}` }, title, time, preview, unread);
      row = { conversation, item: make("li", {}, link), link, title, time, preview, unread };
      this.#rows.set(conversation.id, row);
    }
    return row;
  }

  #fill({ conversation, link, title, time, preview, unread }) {
    const isCurrent = conversation === this.#conversations.current;
    say(title, conversation.name);
    if (time.dateTime !== iso(conversation.lastAt)) {
      time.dateTime = iso(conversation.lastAt);
      time.title = fully(conversation.lastAt);
    }
    say(time, briefly(conversation.lastAt));
    fillPreview(preview, conversation, isCurrent);
    link.toggleAttribute("data-unread", conversation.unread > 0);
    show(unread, conversation.unread > 0);
    say(unread, conversation.unread > 99 ? "99+" : String(conversation.unread));
    unread.setAttribute("aria-label", `${conversation.unread} unread`);
    if (isCurrent) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }

  #onKey(event, list) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    const links = [...list.querySelectorAll("a")];
    const next = links[links.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }
}

function fillPreview(element, conversation, isCurrent) {
  const draft = isCurrent ? "" : memory.draft(conversation.me, conversation.id).trim();
  const isWaiting = [...conversation.outgoing.values()].some((entry) => entry.state === "failed");
  const typing = [...conversation.typists.keys()];
  const [tag, tone, text] = isWaiting ? ["Not sent", "trouble", conversation.preview]
    : draft ? ["Draft:", "calm", draft]
      : typing.length > 0 ? [`${typing[0]} is typing…`, "calm", ""]
        : ["", "calm", conversation.preview];
  const whole = `${tag} ${text}`.trim() || "No messages yet";
  if (element.textContent === whole && element.dataset.tag === tag) return;
  element.dataset.tag = tag;
  if (tag) element.replaceChildren(make("span", { class: "row-preview-tag", "data-tone": tone }, tag), ` ${text}`.trimEnd());
  else element.replaceChildren(whole);
}
