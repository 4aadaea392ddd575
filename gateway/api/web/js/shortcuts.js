// Keyboard shortcuts: one table that is both obeyed and shown. All of them need a modifier, so that none is in the
// way of typing or of a screen reader's own keys.

import { byId, make } from "./dom.js";
import { isAnyDialogOpen, openDialog } from "./dialogs.js";

const SHORTCUTS = [
  { keys: ["Enter"], does: "Send the message" },
  { keys: ["Shift", "Enter"], does: "New line" },
  { keys: ["Alt", "↑"], code: "ArrowUp", alt: true, run: "previous", does: "Previous session" },
  { keys: ["Alt", "↓"], code: "ArrowDown", alt: true, run: "next", does: "Next session" },
  { keys: ["Alt", "N"], code: "KeyN", alt: true, run: "create", does: "New session" },
  { keys: ["Alt", "I"], code: "KeyI", alt: true, run: "invite", does: "Invite somebody" },
  { keys: ["Alt", "D"], code: "KeyD", alt: true, run: "details", does: "Session details" },
  { keys: ["Alt", "M"], code: "KeyM", alt: true, run: "write", does: "Go to the message field" },
  { keys: ["Alt", "L"], code: "KeyL", alt: true, run: "list", does: "Go to the list of sessions" },
  { keys: ["Ctrl", "K"], code: "KeyK", ctrl: true, run: "find", does: "Find a session" },
  { keys: ["Ctrl", "/"], code: "Slash", ctrl: true, run: "help", does: "These shortcuts" },
  { keys: ["Esc"], does: "Close a dialog" },
];

/** Obey the shortcuts; `actions` has a function for each `run` but help. */
export function prepareShortcuts(actions) {
  const isMac = /Mac|iP(hone|ad)/.test(navigator.platform);
  const known = { ...actions, help: () => openDialog(byId("shortcuts-dialog")) };
  fill(isMac);
  byId("shortcuts").addEventListener("click", known.help);
  document.addEventListener("keydown", (event) => {
    const shortcut = SHORTCUTS.find((one) => one.code === event.code
      && Boolean(one.alt) === event.altKey
      && Boolean(one.ctrl) === (event.ctrlKey || event.metaKey)
      && !event.shiftKey);
    if (!shortcut || isAnyDialogOpen()) return;
    event.preventDefault();
    known[shortcut.run]();
  });
}

function fill(isMac) {
  const names = isMac ? { Alt: "⌥", Ctrl: "⌘" } : {};
  const rows = SHORTCUTS.flatMap(({ keys, does }) => [
    make("dt", {}, ...keys.map((key) => make("kbd", {}, names[key] ?? key))),
    make("dd", {}, does),
  ]);
  byId("shortcuts-list").replaceChildren(...rows);
}
