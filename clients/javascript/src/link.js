// Keeps one connection open, for as long as the client lives: when to try, when to wait, when to give up, how to move.

import { Backoff } from "./backoff.js";
import { closing } from "./closing.js";
import { Connection } from "./connection.js";
import { GatewayError } from "./errors.js";
import { Migration } from "./migration.js";
import { target } from "./target.js";
import { listenForWaking } from "./wake.js";

// A connection that has held this long is healthy, and the count of failures begins anew.
const HEALTHY_MS = 10_000;
// 1011: the protocol asks to back off. 4029: whoever flooded must not be back within 250 ms with the same flood.
const PATIENT = new Set([1011, 4029]);
const LOOPBACK = /^(localhost|127\..*|\[::1\])$/;

export class Link {
  #surroundings;
  #options;
  #credentials;
  #hooks;
  #backoff;
  #trying = null;
  #migration = null;
  /** What the connection that is moved to has said meanwhile: that its node leaves as well. */
  #farewell = null;
  #round = 0;
  #retryTimer = null;
  #healthTimer = null;
  /** Not before this moment, however much the page wants it. */
  #holdUntil = 0;
  #why = "";
  #resume = null;
  #stopListening = null;
  #isNetworkGone = false;
  /** Told once, however many tries it lasts. */
  #isSignInFailing = false;

  /** options: {WebSocket, url}. hooks: greet, seen, isSettled; events stateChanged, welcomed, frame, lost, closed, report(error). */
  constructor(surroundings, options, credentials, hooks) {
    this.#surroundings = surroundings;
    this.#options = options;
    this.#credentials = credentials;
    this.#hooks = hooks;
    this.#backoff = new Backoff(surroundings.random);
    /** The welcomed connection that carries what is sent. */
    this.current = null;
    this.state = { name: "connecting" };
  }

  start() {
    this.#stopListening ??= listenForWaking(this.#surroundings, {
      visible: () => this.wake(),
      networkBack: () => {
        this.#isNetworkGone = false;
        this.wake({ networkChanged: true });
      },
      networkGone: () => this.#networkGone(),
    });
    this.#holdUntil = 0;
    this.#backoff.reset();
    this.#attempt();
  }

  /** The page is looked at, or the network is back: try now, or find out whether the connection still lives. */
  wake({ networkChanged = false } = {}) {
    const { name } = this.state;
    if (this.current !== null) {
      this.current.probe();
    } else if (name === "offline" || this.#retryTimer !== null) {
      const holdMs = this.#holdUntil - this.#surroundings.now();
      if (holdMs > 0) {
        this.#retryIn(holdMs);
      } else {
        this.#attempt();
      }
    } else if (networkChanged && name !== "closed") {
      // A try that began on the old network would only run into its time limit.
      this.#attempt();
    }
  }

  /** End it: no more tries. */
  stop(code, reason, why) {
    this.#round += 1;
    this.#clearTimers();
    this.#stopListening?.();
    this.#stopListening = null;
    const connections = [this.#migration?.second, this.#migration?.first, this.#trying, this.current];
    this.#migration?.end();
    this.#trying = null;
    this.current = null;
    for (const connection of connections) {
      connection?.close(1000);
    }
    const state = { name: "closed", code, reason, why };
    this.#hooks.closed(state);
    // Last: who hears it may call reconnect() at once.
    this.#setState(state);
  }

  /** Whether what this connection says of itself is no news, because it is being left. */
  leaves(connection) {
    return this.#migration?.leaves(connection) ?? false;
  }

  /** Something was finished on a connection: perhaps the move is complete. */
  check() {
    this.#migration?.check();
  }

  /** The connection that serves a session: during a move the first, until the second has attached it. */
  serving(session) {
    const first = this.#migration?.first;
    const isWithFirst = first?.state === "open" && first.attached.has(session) && !this.current?.attached.has(session);
    return isWithFirst ? first : this.current;
  }

  migrate(connection, frame) {
    if (connection !== this.current) {
      return;
    }
    if (this.#migration !== null) {
      if (connection !== this.#migration.first) {
        this.#farewell = { connection, frame, at: this.#surroundings.now() };
      }
      return;
    }
    this.#migration = new Migration(this.#surroundings, connection, frame, {
      open: (named) => this.#prepare(target(this.#options.url, named)),
      settled: (second) => this.#hooks.isSettled(second),
      adopt: (second, code) => this.#adopt(second, code),
      over: () => {
        this.#migration = null;
        this.#moveOn();
      },
    });
    this.#migration.start();
  }

  /** Leave the connection that was moved to, if it has asked for that before the move was over. */
  #moveOn() {
    const { connection, frame, at } = this.#farewell ?? {};
    this.#farewell = null;
    if (connection?.state === "open") {
      const waitedMs = this.#surroundings.now() - at;
      const { slot_ms: slotMs = 0, deadline_ms: deadlineMs } = frame;
      this.migrate(connection, {
        ...frame,
        slot_ms: Math.max(0, slotMs - waitedMs),
        ...(deadlineMs !== undefined && { deadline_ms: deadlineMs - waitedMs }),
      });
    }
  }

  // ---- what a connection tells (its listener)

  #welcomed(connection, frame) {
    this.#resume = frame.resume ?? null;
    this.#trying = null;
    this.current = connection;
    this.#surroundings.clearTimeout(this.#healthTimer);
    this.#healthTimer = this.#surroundings.setTimeout(() => this.#backoff.reset(), HEALTHY_MS);
    this.#hooks.welcomed(connection, frame);
    if (this.state.name !== "online") {
      this.#setState({ name: "online" });
    }
    this.check();
  }

  #frame(connection, frame) {
    this.#hooks.frame(connection, frame);
    this.check();
  }

  #closed(connection, code, reason) {
    this.#hooks.lost(connection);
    if (this.#migration?.closed(connection, code)) {
      return;
    }
    if (connection !== this.current && connection !== this.#trying) {
      return;
    }
    this.current = null;
    this.#trying = null;
    const verdict = closing(code);
    if (!verdict.reconnect) {
      this.stop(code, reason, verdict.why);
      return;
    }
    const retryAfterMs = connection.lastError?.retryAfterMs ?? 0;
    this.#failed(verdict.why, { retryAfterMs, longer: verdict.longer, patient: PATIENT.has(code) });
  }

  // ---- trying

  async #attempt() {
    this.#clearTimers();
    this.#round += 1;
    const round = this.#round;
    const abandoned = this.#trying;
    this.#trying = null;
    abandoned?.drop(1000, "");
    if (this.#isOffline) {
      this.#setState({ name: "offline" });
      return;
    }
    this.#showTry();
    try {
      const prepared = await this.#prepare(this.#options.url);
      if (round !== this.#round) {
        return;
      }
      this.#trying = prepared.connection;
      prepared.start();
    } catch (error) {
      if (round === this.#round) {
        this.#credentialFailed(error);
      }
    }
  }

  #showTry() {
    const attempt = this.#backoff.failures;
    const name = this.state.name;
    if (attempt === 0 && (name === "connecting" || name === "closed")) {
      this.#setState({ name: "connecting" });
    } else {
      this.#setState({ name: "reconnecting", attempt, retryAt: null, why: this.#why });
    }
  }

  /** A connection ready to start, with its credential. */
  async #prepare(url) {
    const credential = await this.#credentials.next();
    this.#isSignInFailing = false;
    const connection = new Connection(this.#surroundings, {
      greet: () => this.#hooks.greet(connection, { ...credential, ...(this.#resume && { resume: this.#resume }) }),
      seen: () => this.#hooks.seen(),
      welcomed: (from, frame) => this.#welcomed(from, frame),
      frame: (from, frame) => this.#frame(from, frame),
      closed: (from, code, reason) => this.#closed(from, code, reason),
    });
    return { connection, start: () => connection.start(this.#options.WebSocket, url) };
  }

  #credentialFailed(error) {
    if (error?.retryable === false) {
      this.stop(4500, String(error.message), closing(4500).why);
    } else {
      if (!this.#isSignInFailing) {
        this.#isSignInFailing = true;
        this.#hooks.report(new GatewayError("unauthenticated", `no token: ${error?.message ?? error}`, true));
      }
      // Most often the gateway itself is away: then the loss of the connection is still the better explanation.
      this.#failed(this.#why || "The sign-in service does not answer.", { retryAfterMs: error?.retryAfterMs ?? 0 });
    }
  }

  /** The first connection was lost while the second was being opened: the second is now the try under way. */
  #adopt(second, code) {
    this.current = null;
    this.#trying = second;
    this.#why = closing(code).why;
    this.#setState({ name: "reconnecting", attempt: Math.max(1, this.#backoff.failures), retryAt: null, why: this.#why });
  }

  #failed(why, { retryAfterMs = 0, longer = false, patient = false }) {
    this.#surroundings.clearTimeout(this.#healthTimer);
    this.#why = why;
    const now = this.#surroundings.now();
    const isTold = retryAfterMs > 0;
    const delayMs = isTold ? this.#backoff.told(retryAfterMs) : this.#backoff.next({ longer, patient });
    // An overloaded gateway is spared even when somebody looks at the page.
    this.#holdUntil = now + (longer || isTold ? delayMs : 0);
    if (this.#isOffline) {
      this.#setState({ name: "offline" });
      return;
    }
    this.#retryIn(delayMs);
  }

  #retryIn(ms) {
    this.#surroundings.clearTimeout(this.#retryTimer);
    this.#retryTimer = this.#surroundings.setTimeout(() => this.#attempt(), ms);
    const attempt = Math.max(1, this.#backoff.failures);
    this.#setState({ name: "reconnecting", attempt, retryAt: Math.round(this.#surroundings.now() + ms), why: this.#why });
  }

  /** A page on its own machine may have no network and a gateway all the same, until it has been told that the network went. */
  get #isOffline() {
    const isNetworkNeeded = this.#isNetworkGone || !LOOPBACK.test(new URL(this.#options.url).hostname);
    return isNetworkNeeded && !this.#surroundings.hasNetwork();
  }

  #networkGone() {
    this.#isNetworkGone = true;
    if (this.current !== null) {
      // Browsers are wrong about this at times. If the network is gone, the probe finds the connection dead.
      this.current.probe();
    } else if (this.#retryTimer !== null) {
      this.#clearTimers();
      this.#setState({ name: "offline" });
    }
  }

  #clearTimers() {
    this.#surroundings.clearTimeout(this.#retryTimer);
    this.#surroundings.clearTimeout(this.#healthTimer);
    this.#retryTimer = null;
  }

  #setState(state) {
    this.state = Object.freeze(state);
    this.#hooks.stateChanged(this.state);
  }
}
