// The open session: its head, its transcript, its composer, and what is told about it.

import { Composer } from "./composer.js";
import { byId, face, make, say, show } from "./dom.js";
import { Transcript } from "./transcript.js";
import { counted, enumerated, sentence } from "./words.js";

const FACES = 5;
// A burst of messages is one reading.
const READ_AFTER_MS = 250;
const HEARD = 20;

export class ConversationView {
  #conversations;
  #conversation = null;
  #stops = [];
  #transcript;
  #composer;
  #reading = null;

  constructor(conversations, { mostBytes }) {
    this.#conversations = conversations;
    this.#transcript = new Transcript({ onBottom: () => this.#readSoon() });
    this.#composer = new Composer({ mostBytes, onSent: () => this.#transcript.follow() });
    document.addEventListener("visibilitychange", () => this.#readSoon());
  }

  get conversation() {
    return this.#conversation;
  }

  /** Show a conversation; null: none, `nothing` then says why ({title, text, action}). */
  open(conversation, nothing = null) {
    for (const stop of this.#stops) stop();
    this.#stops = [];
    this.#conversation = conversation;
    show(byId("open"), conversation !== null);
    show(byId("nothing-open"), conversation === null);
    if (conversation === null) showNothing(nothing);
    else this.#listen(conversation);
    this.#transcript.open(conversation);
    this.#composer.open(conversation);
    byId("heard").replaceChildren();
    if (!conversation) return;
    this.#showHead();
    this.#showTyping();
    this.#askAround();
  }

  focusComposer() {
    this.#composer.focus();
  }

  focusTitle() {
    byId("title").focus({ preventScroll: true });
  }

  #listen(conversation) {
    this.#stops = [
      conversation.on("about", () => {
        this.#showHead();
        this.#composer.refresh();
      }),
      conversation.on("people", () => this.#showHead()),
      conversation.on("typing", () => this.#showTyping()),
      conversation.on("attached", () => {
        this.#askAround();
        void this.#transcript.retryLoading();
      }),
      conversation.on("ended", () => this.#composer.refresh()),
      conversation.on("arrived", (message) => this.#hear(message)),
    ];
  }

  #askAround() {
    const conversation = this.#conversation;
    void this.#conversations.readMembers(conversation);
    if (conversation.session?.attached) void conversation.lookAround();
  }

  #showHead() {
    const conversation = this.#conversation;
    say(byId("title"), conversation.name);
    byId("title").title = conversation.name;
    say(byId("presence"), presenceWords(conversation));
    const others = conversation.othersHere;
    const key = others.join(" ");
    const faces = byId("faces");
    if (faces.dataset.key === key) return;
    faces.dataset.key = key;
    faces.replaceChildren(...others.slice(0, FACES).map((user) => face(user, { small: true, here: true })));
    if (others.length > FACES) faces.append(make("span", { class: "face face-small" }, `+${others.length - FACES}`));
  }

  #showTyping() {
    const names = [...this.#conversation.typists.keys()];
    byId("typing").toggleAttribute("data-on", names.length > 0);
    if (names.length > 0) say(byId("typing-words"), `${enumerated(names, 2)} ${names.length === 1 ? "is" : "are"} typing`);
    else say(byId("typing-words"), "");
  }

  // For those who listen: only what others say, only as it happens.
  #hear(message) {
    if (message.sender === this.#conversation.me || !this.#conversation.isLoaded) return;
    const log = byId("heard");
    log.append(make("p", {}, `${message.sender}: ${message.content}`));
    while (log.children.length > HEARD) log.firstElementChild.remove();
  }

  // Read is what somebody could see: the newest in sight, in a window that is not hidden.
  #readSoon() {
    if (this.#reading !== null) return;
    this.#reading = setTimeout(() => {
      this.#reading = null;
      const conversation = this.#conversation;
      if (!conversation?.isLoaded || document.visibilityState !== "visible") return;
      if (this.#transcript.isAtBottom && byId("transcript").clientHeight > 0) conversation.markRead();
    }, READ_AFTER_MS);
  }
}

function presenceWords(conversation) {
  if (conversation.ended) return sentence(conversation.ended);
  const others = conversation.othersHere;
  const people = conversation.members.length;
  const here = others.length === 0 ? "Only you are here" : `${enumerated(others)} ${others.length === 1 ? "is" : "are"} here`;
  const parts = [here];
  if (people > others.length + 1) parts.push(counted(people, "person", "people"));
  if (conversation.isArchived) parts.push("archived");
  return parts.join(" · ");
}

function showNothing(nothing) {
  const { title, text, action } = nothing ?? {};
  say(byId("nothing-title"), title ?? "No session is open");
  say(byId("nothing-text"), text ?? "Choose one from the list, or start a new one.");
  const button = byId("nothing-action");
  say(button, action?.words ?? "New session");
  button.onclick = action?.run ?? (() => byId("new-session").click());
}
