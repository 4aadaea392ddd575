// Notices: one sentence, calm, gone by itself unless somebody is reading it.

import { byId, icon, make } from "./dom.js";

const SHOWN_MS = 6_000;
const WITH_ACTION_MS = 10_000;
const MOST = 3;

/** Show a notice. `tone`: "trouble" for what went wrong; `action`: {words, run}. */
export function toast(words, { tone = "calm", action = null } = {}) {
  const region = byId("toasts");
  for (const other of [...region.children]) {
    if (other.dataset.words === words) other.remove();
  }
  while (region.children.length >= MOST) region.firstElementChild.remove();

  const dismiss = make("button", { class: "button button-icon", type: "button", "aria-label": "Dismiss" }, icon("cross"));
  const element = make(
    "div",
    // An alert interrupts; only what went wrong may.
    { class: "toast", role: tone === "trouble" ? "alert" : "status", "data-tone": tone, "data-words": words },
    make("span", { class: "toast-words" }, words),
  );
  const remove = () => element.remove();
  if (action) {
    const button = make("button", { class: "button button-small", type: "button" }, action.words);
    button.addEventListener("click", () => {
      remove();
      action.run();
    });
    element.append(button);
  }
  dismiss.addEventListener("click", remove);
  element.append(dismiss);
  leaveLater(element, remove, action ? WITH_ACTION_MS : SHOWN_MS);
  region.append(element);
}

function leaveLater(element, remove, afterMs) {
  let timer = setTimeout(remove, afterMs);
  const stay = () => clearTimeout(timer);
  const go = () => {
    clearTimeout(timer);
    timer = setTimeout(remove, afterMs);
  };
  element.addEventListener("pointerenter", stay);
  element.addEventListener("pointerleave", go);
  element.addEventListener("focusin", stay);
  element.addEventListener("focusout", go);
}
