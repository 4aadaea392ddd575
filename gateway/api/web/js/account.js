// Who is at this window, how it looks, and going away.

import { byId, face, icon, make, say } from "./dom.js";
import { openDialog } from "./dialogs.js";

const theme = window.sessionsTheme;

export class Account {
  #me;
  #state = make("span", { class: "account-state" });

  constructor(me, { onSignOut }) {
    this.#me = me;
    const button = byId("account");
    button.setAttribute("aria-label", `You are ${me}. Account and appearance`);
    button.replaceChildren(
      face(me),
      make("span", { class: "account-words" }, make("span", { class: "account-name" }, me), this.#state),
    );
    button.addEventListener("click", () => this.#open());
    byId("sign-out").addEventListener("click", onSignOut);
    byId("theme").addEventListener("click", () => theme.set(theme.isDark ? "light" : "dark"));
    for (const radio of document.querySelectorAll("input[name=theme]")) {
      radio.addEventListener("change", () => theme.set(radio.value));
    }
    theme.onChange(() => this.#showTheme());
    this.#showTheme();
  }

  /** Show the connection's state beside the name. */
  showConnection({ words, tone }) {
    say(this.#state, words);
    this.#state.dataset.state = tone;
  }

  #open() {
    say(byId("account-title"), this.#me);
    say(byId("account-text"), "This is how the others see you in this window. Another window can be somebody else.");
    this.#showTheme();
    openDialog(byId("account-dialog"));
  }

  #showTheme() {
    const button = byId("theme");
    const words = theme.isDark ? "Switch to light" : "Switch to dark";
    button.setAttribute("aria-label", words);
    button.title = words;
    button.replaceChildren(icon(theme.isDark ? "sun" : "moon"));
    const chosen = document.querySelector(`input[name=theme][value=${theme.choice}]`);
    if (chosen) chosen.checked = true;
  }
}
