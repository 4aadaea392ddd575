// The state of the connection in plain words, with a countdown to the next try. Nothing is shown while all is well.

import { byId, say, show } from "./dom.js";

// Most lost connections are back before anybody could have read about them.
const PATIENCE_MS = 400;

export class ConnectionView {
  #bar = byId("connection");
  #words = byId("connection-words");
  #countdown = byId("connection-countdown");
  #button = byId("connection-try");
  #state = null;
  #troubleSince = null;
  #timer = null;
  #onSignIn;
  #onTried;
  #client;

  constructor(client, { onSignIn, onTried }) {
    this.#client = client;
    this.#onTried = onTried;
    this.#onSignIn = onSignIn;
    this.#button.addEventListener("click", () => this.#onButton());
    client.on("state", (state) => this.#take(state));
    this.#take(client.state);
  }

  /** The same in a word or two, for the account's corner: {words, tone}. */
  get briefly() {
    switch (this.#state.name) {
      case "online": return { words: "Connected", tone: "online" };
      case "connecting": return { words: "Connecting…", tone: "trouble" };
      case "reconnecting": return { words: "Reconnecting…", tone: "trouble" };
      case "offline": return { words: "Offline", tone: "trouble" };
      default: return { words: "Not connected", tone: "trouble" };
    }
  }

  #take(state) {
    this.#state = state;
    if (state.name === "online") this.#troubleSince = null;
    else this.#troubleSince ??= Date.now();
    this.#render();
  }

  #render() {
    clearTimeout(this.#timer);
    const state = this.#state;
    const shownIn = state.name === "closed" || state.name === "online" ? 0 : this.#troubleSince + PATIENCE_MS - Date.now();
    if (shownIn > 0) {
      this.#timer = setTimeout(() => this.#render(), shownIn);
      return;
    }
    this.#bar.dataset.state = state.name;
    const { words, countdown, button } = told(state);
    say(this.#words, words);
    say(this.#countdown, countdown);
    say(this.#button, button);
    show(this.#button, button !== "");
    if (state.name === "reconnecting" && state.retryAt !== null) {
      // At the next full second of the countdown.
      const left = state.retryAt - Date.now();
      this.#timer = setTimeout(() => this.#render(), Math.max(50, left % 1000));
    }
  }

  #onButton() {
    if (this.#state.name === "closed" && this.#state.code === 4500) this.#onSignIn();
    else this.#client.reconnect();
    // The button goes when it worked, and must not take the focus with it.
    this.#onTried();
  }
}

function told(state) {
  switch (state.name) {
    case "online":
      return { words: "", countdown: "", button: "" };
    case "connecting":
      return { words: "Connecting…", countdown: "", button: "" };
    case "offline":
      return { words: "You are offline. What you write is kept and sent when the network is back.", countdown: "", button: "Try now" };
    case "reconnecting": {
      if (state.retryAt === null) return { words: "Connection lost.", countdown: "Trying now…", button: "" };
      const seconds = Math.max(1, Math.ceil((state.retryAt - Date.now()) / 1000));
      return { words: "Connection lost.", countdown: `Next try in ${seconds} s.`, button: "Try now" };
    }
    default:
      return state.code === 4500
        ? { words: "You are signed out: this sign-in is no longer good.", countdown: "", button: "Sign in again" }
        : { words: state.why || "The connection was closed.", countdown: "", button: state.code === 1000 ? "" : "Connect again" };
  }
}
