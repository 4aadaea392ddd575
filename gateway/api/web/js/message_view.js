// One message as an element, and what stands between messages.

import { clock, dayName, dayOf, fully, iso } from "./dates.js";
import { face, icon, make } from "./dom.js";
import { linked } from "./links.js";
import { sentence } from "./words.js";

// A pause longer than this begins a new group even of the same sender.
const GROUP_MS = 5 * 60_000;

const STATES = {
  sending: { icon: "clock", words: "Sending" },
  sent: { icon: "sent", words: "Sent" },
  read: { icon: "read", words: "Read" },
  failed: { icon: "failed", words: "Not sent" },
};

/** Whether `message` begins a new day after `previous`. */
export function beginsDay(message, previous) {
  return !previous || dayOf(message.at) !== dayOf(previous.at);
}

function beginsGroup(message, previous) {
  return beginsDay(message, previous) || message.sender !== previous.sender || message.role !== previous.role
    || message.at - previous.at > GROUP_MS;
}

/** The line between two days. */
export function dayLine(at) {
  return make("li", { class: "day" }, make("h2", {}, dayName(at)));
}

/** The line above what is new. */
export function newLine() {
  return make("li", { class: "new-line" }, "New");
}

/** A message as a list item. `previous` decides whether it begins a group. */
export function messageView(message, previous, me) {
  const isOwn = message.sender === me && message.role === "user";
  const isFirst = beginsGroup(message, previous);
  const time = make("time", { class: "message-time", datetime: iso(message.at), title: fully(message.at) }, clock(message.at));
  const bubble = make("div", { class: "bubble" }, ...linked(message.content));
  const item = make("li", {
    class: "message",
    "data-seq": message.seq,
    "data-own": isOwn,
    "data-first": isFirst,
    "data-role": message.role,
  });
  if (isOwn) {
    bubble.append(make("span", { class: "bubble-meta" }, time, stateSign("sent")));
    item.append(spoken("You"), make("div", { class: "message-line" }, bubble));
  } else if (isFirst) {
    item.append(face(message.sender), head(message, time), make("div", { class: "message-line" }, bubble));
  } else {
    item.append(spoken(message.sender), make("div", { class: "message-line" }, bubble, time));
  }
  return item;
}

/** A message on its way, or one that did not get there. */
export function outgoingView(entry, previous, me, { onRetry, onDiscard }) {
  const message = { sender: me, role: entry.role, content: entry.content, at: entry.createdAt, seq: null };
  const item = messageView(message, previous, me);
  item.dataset.id = entry.id;
  setState(item, entry.state);
  if (entry.state === "failed") {
    item.dataset.failed = "";
    item.append(make("div", { class: "message-trouble", role: "alert" },
      make("span", {}, `Not sent. ${sentence(entry.error)}`),
      textButton("Try again", () => onRetry(entry)),
      textButton("Discard", () => onDiscard(entry))));
  }
  return item;
}

/** Show how far an own message has come; whether that was news. */
export function setState(item, state) {
  const sign = item.querySelector(".message-state");
  if (!sign || sign.dataset.state === state) return false;
  sign.replaceWith(stateSign(state));
  return true;
}

function stateSign(state) {
  const { icon: name, words } = STATES[state];
  return make("span", { class: "message-state", "data-state": state, title: words },
    icon(name), make("span", { class: "visually-hidden" }, words));
}

function head(message, time) {
  return make("div", { class: "message-head" },
    make("span", { class: "message-sender" }, message.sender),
    message.role === "user" ? null : make("span", { class: "message-role" }, message.role),
    time);
}

// Whose message it is, for those who do not see where it stands.
function spoken(name) {
  return make("span", { class: "visually-hidden" }, `${name}: `);
}

function textButton(words, run) {
  const button = make("button", { class: "text-button", type: "button" }, words);
  button.addEventListener("click", run);
  return button;
}
