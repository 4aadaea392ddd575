// All sessions of whoever is at this window: the list, kept live by an attachment to each of the latest ones.

import { Conversation } from "./conversation.js";
import { Emitter } from "./emitter.js";

// The gateway allows 64 attachments a connection; the rest is for sessions opened from further down the list.
const MOST_ATTACHED = 50;
const GATHER_MS = 40;

/** Events: list, joined(conversation), gone(conversation, error), trouble(error). */
export class Conversations extends Emitter {
  #client;
  #rest;
  #byId = new Map();
  #following = null;
  #reloading = null;
  #gathering = null;
  current = null;
  isKnown = false;

  constructor(client, rest, me) {
    super();
    this.#client = client;
    this.#rest = rest;
    this.me = me;
    client.on("signal", (signal, session) => {
      if (session === null && signal.name === "session.joined") this.#onJoined(signal.data?.session);
    });
    // A fresh connection missed what was said to the user meanwhile.
    client.on("welcome", (welcome) => {
      if (!welcome.resumed) void this.reload();
    });
  }

  get(id) {
    return this.#byId.get(id) ?? null;
  }

  /** Latest first. */
  get sorted() {
    return [...this.#byId.values()].sort((one, other) => other.lastAt - one.lastAt || (one.id < other.id ? 1 : -1));
  }

  get hasMore() {
    return this.#following !== null;
  }

  get unread() {
    let sum = 0;
    for (const conversation of this.#byId.values()) if (!conversation.isArchived) sum += conversation.unread;
    return sum;
  }

  /** Read the newest page of the list; concurrent calls share one request. */
  reload() {
    this.#reloading ??= this.#reload().finally(() => { this.#reloading = null; });
    return this.#reloading;
  }

  async #reload() {
    try {
      const page = await this.#rest.sessions();
      if (!this.isKnown) this.#following = page.next;
      this.isKnown = true;
      this.#take(page.sessions);
    } catch (error) {
      this.emit("trouble", error);
    }
  }

  /** Read the next page of the list. */
  async more() {
    const page = await this.#rest.sessions(this.#following);
    this.#following = page.next;
    this.#take(page.sessions);
  }

  #take(rows) {
    for (const row of rows) {
      const conversation = this.#known(row.id);
      conversation.describe(row);
      if (!conversation.session && this.#attachedCount() < MOST_ATTACHED) this.#attach(conversation, row.head);
    }
    this.#tellList();
  }

  #known(id) {
    let conversation = this.#byId.get(id);
    if (!conversation) {
      conversation = new Conversation(id, this.me);
      this.#byId.set(id, conversation);
      conversation.on("about", () => this.#tellList());
      conversation.on("ended", (error) => this.#onEnded(conversation, error));
      conversation.on("members", () => void this.readMembers(conversation));
    }
    return conversation;
  }

  #attachedCount() {
    return [...this.#byId.values()].filter((conversation) => conversation.session && !conversation.ended).length;
  }

  #attach(conversation, since = undefined) {
    conversation.follow(this.#client.attach(conversation.id, since === undefined ? {} : { since }));
  }

  /** Open a session: one of the list, or one known only by its id. Rejects when it is not there for me. */
  async open(id) {
    const known = this.#byId.get(id);
    if (known?.session) return known;
    this.#makeRoom();
    if (known) {
      // From the last message that is here: what follows continues it without a hole.
      this.#attach(known, known.messages.at(-1)?.seq ?? known.head);
      return known;
    }
    const session = this.#client.attach(id);
    await session.ready;
    return this.#adopt(session);
  }

  #adopt(session) {
    const isNew = !this.#byId.has(session.id);
    const conversation = this.#known(session.id);
    if (!conversation.session) conversation.follow(session);
    if (isNew) void this.reload();
    this.#tellList();
    return conversation;
  }

  // The quietest session goes without an attachment: it stays in the list, as it is now.
  #makeRoom() {
    if (this.#attachedCount() < MOST_ATTACHED) return;
    const quietest = this.sorted.findLast((one) => one.session && !one.ended && one !== this.current);
    quietest?.unfollow();
  }

  /** Start a session and invite people. Answers {conversation, refused: [{user, error}]}. */
  async create({ title, isTemporary, invited }) {
    const session = await this.#client.open({ title, persistent: !isTemporary });
    const conversation = this.#known(session.id);
    conversation.title = title;
    conversation.owner = this.me;
    conversation.role = "owner";
    conversation.isPersistent = !isTemporary;
    if (!conversation.session) conversation.follow(session);
    const outcomes = await Promise.allSettled(
      invited.map((user) => this.#rest.putMember(session.id, user, "writer")),
    );
    const refused = outcomes.flatMap((outcome, index) =>
      outcome.status === "rejected" ? [{ user: invited[index], error: outcome.reason }] : []);
    this.#tellList();
    return { conversation, refused };
  }

  // ---- people

  /** Read who is in a session. If I am not any more, it is gone. */
  async readMembers(conversation) {
    if (conversation.isLeaving || conversation.ended) return;
    try {
      conversation.takeMembers(await this.#rest.members(conversation.id));
    } catch (error) {
      if (error.code !== "not_found" || conversation.isLeaving || !conversation.session) return;
      conversation.unfollow();
      this.#onEnded(conversation, error);
    }
  }

  async invite(conversation, user, role) {
    await this.#rest.putMember(conversation.id, user, role);
    await this.readMembers(conversation);
  }

  async remove(conversation, user) {
    await this.#rest.removeMember(conversation.id, user);
    await this.readMembers(conversation);
  }

  async leave(conversation) {
    conversation.isLeaving = true;
    try {
      await this.#rest.removeMember(conversation.id, this.me);
    } finally {
      conversation.isLeaving = false;
    }
    conversation.unfollow();
    this.forget(conversation);
  }

  /** Take a session off the list. */
  forget(conversation) {
    this.#byId.delete(conversation.id);
    this.#tellList();
  }

  // ---- what happens

  async #onJoined(id) {
    if (typeof id !== "string" || this.#byId.has(id)) return;
    await this.reload();
    const conversation = this.#byId.get(id);
    if (conversation) this.emit("joined", conversation);
  }

  #onEnded(conversation, error) {
    if (!this.#byId.has(conversation.id)) return;
    this.#byId.delete(conversation.id);
    this.emit("gone", conversation, error);
    this.#tellList();
  }

  // A burst of messages changes the list once.
  #tellList() {
    this.#gathering ??= setTimeout(() => {
      this.#gathering = null;
      this.emit("list");
    }, GATHER_MS);
  }
}
