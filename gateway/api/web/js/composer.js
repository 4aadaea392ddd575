// Where messages are written: grows with its text, keeps a draft per session, sends with Enter.

import { byId, say, show } from "./dom.js";
import { memory } from "./memory.js";
import { sentence } from "./words.js";

const MESSAGE_BYTES = 65_536;
// Near the end of what fits, the page counts.
const NEARLY = 0.9;
const encoder = new TextEncoder();

export class Composer {
  #form = byId("composer-form");
  #text = byId("composer");
  #send = byId("send");
  #note = byId("composer-note");
  #closed = byId("closed-note");
  #conversation = null;
  #mostBytes;
  #onSent;

  /** `mostBytes` answers how long a message may be. */
  constructor({ mostBytes, onSent }) {
    this.#mostBytes = mostBytes;
    this.#onSent = onSent;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("keydown", (event) => this.#onKey(event));
    this.#text.addEventListener("input", () => this.#onInput());
    this.#text.addEventListener("blur", () => this.#conversation?.tellTyping(false));
  }

  /** Write to this conversation from now on; null: to none. */
  open(conversation) {
    this.#conversation?.tellTyping(false);
    this.#conversation = conversation;
    this.#text.value = conversation ? memory.draft(conversation.me, conversation.id) : "";
    this.refresh();
    this.#fit();
  }

  /** Show whether one may write here. */
  refresh() {
    const conversation = this.#conversation;
    const may = conversation?.mayWrite ?? false;
    show(this.#form, may);
    show(this.#closed, conversation !== null && !may);
    if (conversation && !may) say(this.#closed, whyNot(conversation));
    this.#weigh();
  }

  focus() {
    if (!this.#form.hidden) this.#text.focus({ preventScroll: true });
  }

  #onKey(event) {
    // Enter that picks a word of an input method is not for us.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#submit();
  }

  #onInput() {
    const conversation = this.#conversation;
    memory.keepDraft(conversation.me, conversation.id, this.#text.value);
    conversation.tellTyping(this.#text.value.trim() !== "");
    this.#fit();
    this.#weigh();
  }

  #submit() {
    const content = this.#text.value.trim();
    if (content === "" || this.#send.disabled) return;
    try {
      this.#conversation.send(content);
    } catch (error) {
      // The text stays where it is: nothing was sent.
      this.#trouble(sentence(error));
      return;
    }
    this.#text.value = "";
    memory.keepDraft(this.#conversation.me, this.#conversation.id, "");
    this.#fit();
    this.#weigh();
    this.#text.focus({ preventScroll: true });
    this.#onSent();
  }

  // The height its text needs, up to the limit that the style sheet sets.
  #fit() {
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }

  #weigh() {
    const content = this.#text.value.trim();
    const most = this.#mostBytes() ?? MESSAGE_BYTES;
    // A character has at most three bytes for each of its UTF-16 units: short texts need no encoding.
    const bytes = content.length * 3 < most * NEARLY ? 0 : encoder.encode(content).length;
    this.#send.disabled = content === "" || bytes > most;
    if (bytes > most) this.#trouble(`Too long by ${bytes - most} bytes. Send it in parts.`);
    else this.#calm(bytes > most * NEARLY ? `${most - bytes} bytes left` : "");
  }

  #trouble(words) {
    this.#note.dataset.tone = "trouble";
    say(this.#note, words);
  }

  #calm(words) {
    delete this.#note.dataset.tone;
    say(this.#note, words);
  }
}

function whyNot(conversation) {
  if (conversation.ended) return sentence(conversation.ended);
  return "You may read here, but not write. The owner of the session can change that.";
}
