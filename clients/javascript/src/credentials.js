// Where the token or ticket of the next hello comes from, and the refresh of a token that expires in mid-connection.

import { GatewayError } from "./errors.js";
import { within } from "./surroundings.js";

// A provider may have to ask a server of its own; one that never answers must not hold the client for ever.
const PROVIDER_MS = 30_000;
const REFRESH_RETRY_MS = 5000;

export class Credentials {
  #surroundings;
  #options;
  #round = 0;

  constructor(surroundings, { token, getToken, getTicket }) {
    this.#surroundings = surroundings;
    this.#options = { token, getToken, getTicket };
  }

  /** The credential's part of a hello. */
  async next() {
    const { token, getToken, getTicket } = this.#options;
    if (getTicket) {
      return { ticket: await this.#ask(getTicket) };
    }
    if (getToken) {
      return { token: await this.#ask(getToken) };
    }
    return token === undefined ? {} : { token };
  }

  /** Answer `expiring`: get a new token and hand it in, until it is accepted or the old one is over.
   *  Without getToken nothing can be done: the connection is closed at the expiry, and the next has a new credential. */
  async refresh(inMs, request) {
    if (!this.#options.getToken) {
      return;
    }
    this.#round += 1;
    const round = this.#round;
    const deadline = this.#surroundings.now() + inMs;
    for (;;) {
      try {
        await request({ type: "refresh", token: await this.#ask(this.#options.getToken) });
        return;
      } catch (error) {
        const over = this.#surroundings.now() + REFRESH_RETRY_MS >= deadline;
        if (over || error.retryable === false || error.code === "connection_lost" || round !== this.#round) {
          throw error;
        }
      }
      await new Promise((resume) => {
        this.#surroundings.setTimeout(resume, REFRESH_RETRY_MS);
      });
    }
  }

  #ask(provider) {
    const late = () => new GatewayError("timeout", "the token provider did not answer", true);
    return within(this.#surroundings, PROVIDER_MS, Promise.resolve().then(provider), late);
  }
}
