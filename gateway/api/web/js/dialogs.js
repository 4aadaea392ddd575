// Opening and closing dialogs, and asking whether somebody is sure.

import { byId } from "./dom.js";

/** Make every dialog close by its buttons and by a click beside it. Escape is the browser's. */
export function prepareDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    for (const button of dialog.querySelectorAll("[data-close]")) {
      button.addEventListener("click", () => dialog.close());
    }
    // Only where the press began on the backdrop too: selecting text must not close anything.
    let pressedBeside = false;
    dialog.addEventListener("pointerdown", (event) => { pressedBeside = isBeside(dialog, event); });
    dialog.addEventListener("click", (event) => {
      if (pressedBeside && isBeside(dialog, event)) dialog.close();
    });
  }
}

function isBeside(dialog, event) {
  if (event.target !== dialog) return false;
  const box = dialog.getBoundingClientRect();
  const inside = event.clientX >= box.left && event.clientX <= box.right
    && event.clientY >= box.top && event.clientY <= box.bottom;
  return !inside;
}

/** Open a dialog, with the focus on `first`. */
export function openDialog(dialog, first = null) {
  if (!dialog.open) dialog.showModal();
  first?.focus();
}

export function isAnyDialogOpen() {
  return document.querySelector("dialog[open]") !== null;
}

/** Ask before something that cannot be undone. Resolves to whether they are sure. */
export function askSure({ title, text, yes }) {
  const dialog = byId("sure-dialog");
  const yesButton = byId("sure-yes");
  byId("sure-title").textContent = title;
  byId("sure-text").textContent = text;
  yesButton.textContent = yes;
  return new Promise((resolve) => {
    let sure = false;
    const agree = () => {
      sure = true;
      dialog.close();
    };
    yesButton.addEventListener("click", agree, { once: true });
    dialog.addEventListener("close", () => {
      yesButton.removeEventListener("click", agree);
      resolve(sure);
    }, { once: true });
    openDialog(dialog, byId("sure-no"));
  });
}
