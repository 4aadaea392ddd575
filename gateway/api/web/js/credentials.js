// Who is at this window, and the token that proves it. Tokens of the demo are fetched anew when they grow old.

import { memory } from "./memory.js";
import { open } from "./rest.js";

// The gateway says that a token expires one minute ahead; what is that old is replaced.
const OLD_MS = 90_000;
// A new token that is refused as well would be refused for ever: not again so soon.
const DISCARD_MS = 60_000;

/** Somebody known by name: the gateway makes tokens for them. */
export class DemoCredentials {
  #token = null;
  #expiresAt = 0;
  #discardedAt = 0;

  constructor(name) {
    this.name = name;
  }

  async token() {
    if (!this.#token || Date.now() > this.#expiresAt - OLD_MS) {
      const made = await open.demoToken(this.name);
      this.#token = made.token;
      this.#expiresAt = Date.parse(made.expires_at);
    }
    return this.#token;
  }

  /** The gateway did not like it: the next one is a new one. Answers whether there can be a new one. */
  discard() {
    const isSoon = Date.now() - this.#discardedAt < DISCARD_MS;
    if (this.#token === null || isSoon) return false;
    this.#token = null;
    this.#discardedAt = Date.now();
    return true;
  }

  remember() {
    memory.name = this.name;
  }
}

/** Somebody with a token of their own. */
export class GivenCredentials {
  #token;

  constructor(token) {
    this.#token = token;
    this.name = subject(token) ?? "you";
  }

  async token() {
    return this.#token;
  }

  discard() {
    return false;
  }

  remember() {
    memory.token = this.#token;
  }
}

/** Whoever was at this window before the reload; null: nobody. */
export function remembered(isDemo) {
  if (isDemo) return memory.name ? new DemoCredentials(memory.name) : null;
  return memory.token ? new GivenCredentials(memory.token) : null;
}

// The name a token speaks for. It is only shown: the gateway decides what it is worth.
function subject(token) {
  try {
    const part = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes));
    return typeof sub === "string" && sub !== "" ? sub : null;
  } catch {
    return null;
  }
}
