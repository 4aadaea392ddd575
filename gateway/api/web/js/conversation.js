// One session as this page knows it: its messages (a run without holes, up to the newest), what is on its way,
// who is here, who types, who has read how far. No element of the page in here.

import { Emitter } from "./emitter.js";

const PAGE = 50;
const MOST_AT_ONCE = 200;
const TYPING_SHOWN_MS = 6_000;
const TYPING_TOLD_MS = 3_000;
const PREVIEW = 120;

/** Events: about, messages(change), arrived(message), outgoing, readers, people, members, typing, loading,
 *  attached, ended(error). */
export class Conversation extends Emitter {
  messages = [];
  outgoing = new Map();
  readers = new Map();
  here = new Map();
  typists = new Map();
  members = [];
  isLeaving = false;
  isLoaded = false;
  isLoading = false;
  loadError = null;
  hasOlder = false;
  session = null;
  ended = null;
  #toldTypingAt = 0;
  #loading = null;

  constructor(id, me) {
    super();
    this.id = id;
    this.me = me;
    this.title = "";
    this.owner = null;
    this.role = null;
    this.status = "active";
    this.head = 0;
    this.read = 0;
    this.lastAt = Date.now();
    this.preview = "";
    this.expiresAt = null;
    this.isPersistent = true;
  }

  get name() {
    return this.title || "Untitled session";
  }

  /** How many messages of others are new. Where they are not loaded, one's own among them count too. */
  get unread() {
    if (this.ended || this.head <= this.read) return 0;
    if (!this.isLoaded || this.messages.length === 0 || this.messages[0].seq > this.read + 1) return this.head - this.read;
    let count = 0;
    for (let index = this.messages.length - 1; index >= 0 && this.messages[index].seq > this.read; index -= 1) {
      if (this.messages[index].sender !== this.me) count += 1;
    }
    return count;
  }

  get mayWrite() {
    return !this.ended && this.role !== "reader";
  }

  get isArchived() {
    return this.status === "archived";
  }

  /** Those besides me who are connected. */
  get othersHere() {
    return [...this.here.keys()].filter((user) => user !== this.me).sort();
  }

  // ---- what the gateway tells

  /** Take over one row of the list of sessions. Never back in time: live events may have overtaken it. */
  describe(row) {
    this.title = row.title;
    this.owner = row.owner;
    this.role = row.role;
    this.status = row.status;
    this.isPersistent = row.persistent;
    this.read = Math.max(this.read, row.read);
    if (row.head >= this.head) {
      this.head = row.head;
      this.preview = row.preview;
      this.lastAt = Date.parse(row.last_at);
    }
    this.emit("about");
  }

  /** Follow an attachment of the client. */
  follow(session) {
    this.session = session;
    for (const entry of session.pending) this.outgoing.set(entry.id, entry);
    const hear = (event, listener) => {
      // What a session that was let go of still says is not ours any more.
      session.on(event, (detail) => { if (this.session === session) listener(detail); });
    };
    hear("attached", () => this.#onAttached());
    hear("message", (message) => this.#onMessage(message));
    hear("outgoing", (entry) => this.#onOutgoing(entry));
    hear("read", (mark) => this.#onRead(mark));
    hear("signal", (signal) => this.#onSignal(signal));
    hear("presence", (change) => this.#onPresence(change));
    hear("session", (event) => this.#onSession(event));
    hear("ended", (error) => this.#onEnded(error));
    if (session.attached) this.#onAttached();
  }

  /** Let go of the attachment. */
  unfollow() {
    const { session } = this;
    this.session = null;
    session?.detach().catch(() => {});
  }

  #onAttached() {
    const { session } = this;
    if (session.title !== null) this.title = session.title;
    if (session.role !== null) this.role = session.role;
    this.head = Math.max(this.head, session.head);
    this.emit("about");
    this.emit("attached");
  }

  #onMessage(raw) {
    const message = adopted(raw);
    if (message.sender === this.me && this.read === message.seq - 1) this.read = message.seq;
    this.head = Math.max(this.head, message.seq);
    this.lastAt = message.at;
    this.preview = message.content.slice(0, PREVIEW);
    this.#stopTyping(message.sender);
    if (message.sender === this.me && message.clientId) this.outgoing.delete(message.clientId);
    if (this.isLoaded || this.isLoading) this.#merge([message]);
    if (this.isLoaded) this.emit("messages", { kind: "append", messages: [message] });
    this.emit("outgoing");
    this.emit("about");
    this.emit("arrived", message);
  }

  #onOutgoing(entry) {
    this.outgoing.set(entry.id, entry);
    this.#settle();
    this.emit("outgoing");
    this.emit("about");
  }

  #onRead({ user, seq }) {
    if (user === this.me) {
      // Read in another window of mine.
      this.read = Math.max(this.read, seq);
      this.emit("about");
      return;
    }
    if (seq <= (this.readers.get(user) ?? 0)) return;
    this.readers.set(user, seq);
    this.emit("readers");
  }

  #onSignal({ name, data, sender }) {
    if (name !== "typing" || !sender || sender === this.me) return;
    if (data?.on === false) {
      this.#stopTyping(sender);
      return;
    }
    clearTimeout(this.typists.get(sender));
    this.typists.set(sender, setTimeout(() => this.#stopTyping(sender), TYPING_SHOWN_MS));
    this.emit("typing");
  }

  #stopTyping(user) {
    if (!this.typists.has(user)) return;
    clearTimeout(this.typists.get(user));
    this.typists.delete(user);
    this.emit("typing");
  }

  #onPresence({ event, user, connections }) {
    if (event === "leave" || connections === 0) {
      this.here.delete(user);
      this.#stopTyping(user);
    } else {
      this.here.set(user, connections);
    }
    this.emit("people");
  }

  #onSession({ event, changes }) {
    if (event === "updated" || event === "archived") {
      if (typeof changes?.title === "string") this.title = changes.title;
      if (changes?.status) this.status = changes.status;
      else if (event === "archived") this.status = "archived";
      this.emit("about");
      // Without changes of its own it is the members that changed.
      if (Object.keys(changes ?? {}).length === 0) this.emit("members");
    }
  }

  #onEnded(error) {
    this.ended = error;
    this.emit("about");
    this.emit("ended", error);
  }

  // ---- reading

  /** Load the newest messages, once; more of them when there is more to catch up on. */
  load() {
    if (this.isLoaded) return Promise.resolve();
    const limit = Math.min(MOST_AT_ONCE, Math.max(PAGE, this.unread + 10));
    return this.#page({ limit }, "reset");
  }

  /** Load the page above the oldest message. */
  loadOlder() {
    if (!this.isLoaded || !this.hasOlder) return Promise.resolve();
    return this.#page({ before: this.messages[0].seq, limit: PAGE }, "prepend");
  }

  #page(request, kind) {
    this.#loading ??= this.#fetch(request, kind).finally(() => { this.#loading = null; });
    return this.#loading;
  }

  async #fetch(request, kind) {
    this.isLoading = true;
    this.loadError = null;
    this.emit("loading");
    try {
      const page = await this.session.history(request);
      const messages = page.messages.map(adopted);
      // Older ones were let go of while this page was under way: it would leave a hole.
      if (kind === "prepend" && messages.length > 0 && messages.at(-1).seq !== this.messages[0].seq - 1) return;
      this.#merge(messages);
      this.isLoaded = true;
      this.hasOlder = page.more && this.messages.length > 0 && this.messages[0].seq > 1;
      this.#settle();
      this.isLoading = false;
      this.emit("messages", { kind, messages });
      this.emit("outgoing");
    } catch (error) {
      this.loadError = error;
    } finally {
      this.isLoading = false;
      this.emit("loading");
    }
  }

  /** Let go of all but the newest messages; they can be loaded again. */
  keepNewest(number) {
    if (this.messages.length <= number) return;
    this.messages.splice(0, this.messages.length - number);
    this.hasOlder = this.messages[0].seq > 1;
  }

  #merge(messages) {
    if (messages.length === 0) return;
    const last = this.messages.at(-1)?.seq ?? 0;
    if (messages[0].seq > last) {
      this.messages.push(...messages);
      return;
    }
    const bySeq = new Map();
    for (const message of [...messages, ...this.messages]) bySeq.set(message.seq, message);
    this.messages = [...bySeq.values()].sort((one, other) => one.seq - other.seq);
  }

  // What was committed before a reload comes back by history and not as an event: then the ack says which it was.
  #settle() {
    const newest = this.messages.at(-1)?.seq ?? 0;
    const mine = new Set();
    for (const message of this.messages) if (message.sender === this.me) mine.add(message.clientId);
    for (const [id, entry] of this.outgoing) {
      const isShown = this.isLoaded ? entry.seq !== null && entry.seq <= newest : entry.state === "sent";
      if (mine.has(id) || (entry.state === "sent" && isShown)) this.outgoing.delete(id);
    }
  }

  markRead() {
    if (this.head <= this.read || !this.session || this.ended) return;
    this.read = this.head;
    this.session.read(this.head);
    this.emit("about");
  }

  // ---- writing

  send(content) {
    this.#toldTypingAt = 0;
    // Its fate is told by "outgoing" events; the promise is for those who have only one message to send.
    this.session.send(content).catch(() => {});
  }

  /** Send a failed message again, under its own id. */
  retry(entry) {
    this.outgoing.delete(entry.id);
    this.session.send(entry.content, { id: entry.id, role: entry.role, metadata: entry.metadata }).catch(() => {});
  }

  discard(entry) {
    this.outgoing.delete(entry.id);
    this.emit("outgoing");
  }

  /** Tell the others that I am typing, at most every few seconds; or that I stopped. */
  tellTyping(on) {
    const now = Date.now();
    if (!this.session || this.ended || !this.mayWrite) return;
    if (on && now - this.#toldTypingAt < TYPING_TOLD_MS) return;
    if (!on && this.#toldTypingAt === 0) return;
    this.#toldTypingAt = on ? now : 0;
    this.session.signal("typing", { on });
  }

  // ---- people

  /** Ask who is here; the answer comes as "people". */
  async lookAround() {
    try {
      const users = await this.session.presence();
      this.here = new Map(users.map((user) => [user.user, user.connections]));
      this.emit("people");
    } catch { /* Unknown for now; it is asked again at the next attachment. */ }
  }

  takeMembers(members) {
    this.members = members;
    this.owner = members.find((member) => member.role === "owner")?.user ?? this.owner;
    this.role = members.find((member) => member.user === this.me)?.role ?? this.role;
    for (const { user, read } of members) {
      if (user === this.me) this.read = Math.max(this.read, read);
      else this.readers.set(user, Math.max(read, this.readers.get(user) ?? 0));
    }
    this.emit("people");
    this.emit("readers");
    this.emit("about");
  }

  /** Who besides me has read the message. */
  readBy(seq) {
    return [...this.readers].filter(([user, read]) => read >= seq && user !== this.me).map(([user]) => user).sort();
  }
}

function adopted(message) {
  return {
    seq: message.seq,
    clientId: message.clientId,
    sender: message.sender,
    role: message.role,
    content: message.content,
    at: Date.parse(message.createdAt),
  };
}
