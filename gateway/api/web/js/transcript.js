// The messages of the open session on the page: chunks of a page each, so that thousands cost little; follows the
// newest unless somebody reads further up; older pages are loaded on the way there and nothing moves meanwhile.

import { byId, make, say, show } from "./dom.js";
import { Outbound } from "./outbound.js";
import { beginsDay, dayLine, messageView, newLine, setState } from "./message_view.js";
import { counted, sentence } from "./words.js";

const CHUNK = 50;
// Older pages are asked for this far before their place is reached.
const AHEAD_PX = 900;
const BOTTOM_PX = 48;
// While the newest are followed, more than this many rows are cut back to KEPT; scrolling up loads them again.
const MOST_FOLLOWED = 600;
const KEPT = 300;

export class Transcript {
  #scroller = byId("transcript");
  #chunks = byId("chunks");
  #older = byId("older");
  #empty = byId("said-nothing");
  #pill = byId("pill");
  #outbound;
  #conversation = null;
  #stops = [];
  #ownRows = [];
  #isFollowing = true;
  #lastTop = 0;
  #newAfter = null;
  #onBottom;

  /** `onBottom` is called whenever the newest messages are in sight. */
  constructor({ onBottom }) {
    this.#onBottom = onBottom;
    this.#outbound = new Outbound();
    this.#scroller.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    this.#pill.addEventListener("click", () => {
      this.follow();
      this.#scroller.focus({ preventScroll: true });
    });
    const watcher = new ResizeObserver(() => this.#onResize());
    watcher.observe(this.#scroller);
    watcher.observe(this.#chunks);
    watcher.observe(byId("waiting"));
  }

  get isAtBottom() {
    return this.#isFollowing;
  }

  /** Show a conversation; null: none. */
  open(conversation) {
    for (const stop of this.#stops) stop();
    // What was read further up is not kept in memory for a session that is not open.
    this.#conversation?.keepNewest(CHUNK * 2);
    this.#conversation = conversation;
    this.#newAfter = null;
    this.#clear();
    this.#outbound.open(conversation);
    this.#stops = [];
    if (!conversation) return;
    this.#newAfter = conversation.unread > 0 ? conversation.read : null;
    this.#stops = [
      conversation.on("messages", (change) => this.#onMessages(change)),
      conversation.on("loading", () => this.#showOlder()),
      conversation.on("about", () => this.#showPill()),
      conversation.on("readers", () => this.#markReceipts()),
      conversation.on("people", () => this.#markReceipts()),
      conversation.on("outgoing", () => {
        this.#showEmpty();
        this.#markReceipts();
      }),
    ];
    if (conversation.isLoaded) this.#render();
    else void conversation.load();
    this.#showOlder();
  }

  /** Go to the newest message and stay there. */
  follow() {
    this.#isFollowing = true;
    this.#toBottom();
    this.#showPill();
  }

  // ---- changes

  #onMessages({ kind, messages }) {
    if (kind === "reset") {
      this.#render();
    } else if (kind === "prepend") {
      this.#prepend(messages);
    } else {
      this.#append(messages);
    }
  }

  #clear() {
    this.#chunks.replaceChildren();
    this.#ownRows = [];
    this.#isFollowing = true;
    show(this.#empty, false);
    this.#showPill();
  }

  #render() {
    const { messages } = this.#conversation;
    this.#clear();
    for (let start = 0; start < messages.length; start += CHUNK) {
      const chunk = this.#makeChunk();
      this.#fill(chunk, messages.slice(start, start + CHUNK), messages[start - 1]);
      this.#chunks.append(chunk);
    }
    this.#markReceipts();
    this.#showEmpty();
    this.#settleLater();
    const line = this.#chunks.querySelector(".new-line");
    this.follow();
    // What is new begins in sight, with a little of what was before it.
    if (line) line.scrollIntoView({ block: "center" });
    this.#onScroll();
  }

  #append(messages) {
    const all = this.#conversation.messages;
    const before = all[all.length - messages.length - 1];
    let chunk = this.#chunks.lastElementChild;
    if (!chunk || chunk.querySelectorAll(".message").length >= CHUNK) {
      chunk = this.#makeChunk();
      this.#chunks.append(chunk);
      this.#settleLater();
    }
    const rows = this.#fill(chunk, messages, before);
    for (const row of rows) row.dataset.arrived = "";
    this.#markReceipts();
    this.#showEmpty();
    if (this.#isFollowing) {
      this.#cutBack();
      this.#toBottom();
      this.#onBottom();
    } else {
      this.#showPill();
    }
  }

  #prepend(messages) {
    if (messages.length === 0) return;
    const scroller = this.#scroller;
    const fromBottom = scroller.scrollHeight - scroller.scrollTop;
    const chunk = this.#makeChunk();
    const all = this.#conversation.messages;
    this.#fill(chunk, messages, undefined);
    this.#reviseFirst(all[messages.length], all[messages.length - 1]);
    this.#chunks.prepend(chunk);
    // What is in sight stays where it is: its distance from the end has not changed.
    scroller.scrollTop = scroller.scrollHeight - fromBottom;
    this.#lastTop = scroller.scrollTop;
    this.#markReceipts();
    this.#settleLater();
  }

  // The row that was the first has somebody before it now: it may continue a group or a day.
  #reviseFirst(message, previous) {
    const row = message && this.#chunks.querySelector(`[data-seq="${message.seq}"]`);
    if (!row) return;
    const line = row.previousElementSibling;
    if (line?.classList.contains("day") && !beginsDay(message, previous)) line.remove();
    const revised = messageView(message, previous, this.#conversation.me);
    if (message.seq <= this.#furthest) setState(revised, "read");
    row.replaceWith(revised);
    const index = this.#ownRows.indexOf(row);
    if (index >= 0) this.#ownRows[index] = revised;
  }

  // Whole chunks go, from the top, while enough stay.
  #cutBack() {
    if (this.#conversation.messages.length <= MOST_FOLLOWED) return;
    let rows = this.#conversation.messages.length;
    for (const chunk of [...this.#chunks.children]) {
      const size = chunk.querySelectorAll(".message").length;
      if (rows - size < KEPT) break;
      rows -= size;
      chunk.remove();
    }
    this.#conversation.keepNewest(rows);
    const [first] = this.#conversation.messages;
    const top = this.#chunks.firstElementChild;
    if (!top.firstElementChild.classList.contains("day")) top.prepend(dayLine(first.at));
    this.#ownRows = this.#ownRows.filter((row) => row.isConnected);
    this.#showOlder();
  }

  // ---- building

  #makeChunk() {
    return make("ol", { class: "chunk" });
  }

  #fill(chunk, messages, before) {
    const { me } = this.#conversation;
    const furthest = this.#furthest;
    const rows = [];
    let previous = before;
    for (const message of messages) {
      if (beginsDay(message, previous)) chunk.append(dayLine(message.at));
      if (this.#newAfter !== null && message.seq > this.#newAfter && message.sender !== me) {
        if (previous !== undefined || message.seq === this.#newAfter + 1) chunk.append(newLine());
        this.#newAfter = null;
      }
      const row = messageView(message, previous, me);
      if (message.seq <= furthest) setState(row, "read");
      chunk.append(row);
      rows.push(row);
      previous = message;
    }
    this.#addOwn(rows.filter((row) => "own" in row.dataset));
    return rows;
  }

  // Ascending, like everything here: a page goes in front, what is new behind.
  #addOwn(rows) {
    if (rows.length === 0) return;
    const isOlder = this.#ownRows.length > 0 && Number(rows[0].dataset.seq) < Number(this.#ownRows[0].dataset.seq);
    if (isOlder) this.#ownRows.unshift(...rows);
    else this.#ownRows.push(...rows);
  }

  // Measure each finished chunk once, then let the browser skip it while it is off screen.
  #settleLater() {
    requestAnimationFrame(() => {
      const finished = [...this.#chunks.children].slice(0, -2).filter((chunk) => !("settled" in chunk.dataset));
      const heights = finished.map((chunk) => chunk.getBoundingClientRect().height);
      finished.forEach((chunk, index) => {
        if (heights[index] === 0) return;
        chunk.style.containIntrinsicBlockSize = `auto ${heights[index]}px`;
        chunk.dataset.settled = "";
      });
    });
  }

  // ---- receipts

  get #furthest() {
    let furthest = 0;
    for (const [user, seq] of this.#conversation.readers) {
      if (user !== this.#conversation.me && seq > furthest) furthest = seq;
    }
    return furthest;
  }

  #markReceipts() {
    const conversation = this.#conversation;
    const furthest = this.#furthest;
    for (let index = this.#ownRows.length - 1; index >= 0; index -= 1) {
      const row = this.#ownRows[index];
      if (Number(row.dataset.seq) > furthest) continue;
      // Whoever has read this one has read what is above it.
      if (!setState(row, "read")) break;
    }
    this.#chunks.querySelector(".receipt")?.remove();
    const last = this.#ownRows.at(-1);
    // Words only where the last message is one's own: otherwise the answer says more.
    if (!last || last.nextElementSibling || last.parentElement.nextElementSibling) return;
    if (conversation.outgoing.size > 0) return;
    last.append(make("div", { class: "receipt" }, receiptWords(conversation, Number(last.dataset.seq))));
  }

  // ---- scrolling

  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    if (!this.#conversation || clientHeight === 0) return;
    // Only somebody who scrolls up leaves the newest; what grows or shrinks around them does not take them away.
    if (scrollHeight - scrollTop - clientHeight < BOTTOM_PX) this.#isFollowing = true;
    else if (scrollTop < this.#lastTop) this.#isFollowing = false;
    this.#lastTop = scrollTop;
    if (this.#isFollowing) this.#onBottom();
    this.#showPill();
    if (scrollTop < AHEAD_PX && !this.#conversation.isLoading && !this.#conversation.loadError) {
      void this.#conversation.loadOlder();
    }
  }

  #onResize() {
    if (this.#isFollowing) this.#toBottom();
  }

  #toBottom() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#lastTop = this.#scroller.scrollTop;
  }

  #showPill() {
    const unread = this.#conversation?.unread ?? 0;
    show(this.#pill, !this.#isFollowing);
    this.#pill.toggleAttribute("data-new", unread > 0);
    const words = byId("pill-words");
    words.classList.toggle("visually-hidden", unread === 0);
    say(words, unread > 0 ? counted(unread, "new message", "new messages") : "Go to the newest message");
  }

  #showEmpty() {
    const { isLoaded, messages, outgoing } = this.#conversation;
    show(this.#empty, isLoaded && messages.length === 0 && outgoing.size === 0);
  }

  #showOlder() {
    const { isLoading, isLoaded, loadError } = this.#conversation;
    this.#scroller.setAttribute("aria-busy", String(isLoading));
    if (loadError) {
      const again = make("button", { class: "text-button", type: "button" }, "Try again");
      again.addEventListener("click", () => void this.retryLoading());
      this.#older.replaceChildren(make("span", {}, `Messages could not be loaded. ${sentence(loadError)}`), again);
    } else if (isLoading) {
      this.#older.replaceChildren(isLoaded ? "Loading earlier messages…" : "Loading messages…");
    } else {
      this.#older.replaceChildren();
    }
  }

  /** Load again what could not be loaded. */
  async retryLoading() {
    const conversation = this.#conversation;
    if (!conversation?.loadError) return;
    conversation.loadError = null;
    await (conversation.isLoaded ? conversation.loadOlder() : conversation.load());
  }
}

function receiptWords(conversation, seq) {
  const readers = conversation.readBy(seq);
  const others = conversation.members.filter((member) => member.user !== conversation.me).length;
  if (readers.length === 0) return "Sent";
  if (others === 1) return "Read";
  if (readers.length >= others && others > 0) return "Read by everybody";
  return `Read by ${readers.length > 3 ? `${readers.length} people` : readers.join(", ")}`;
}
