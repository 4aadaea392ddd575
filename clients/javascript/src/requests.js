// Requests with one answer, made whether there is a connection or not: they wait for one, up to their time limit.

import { jitter } from "./backoff.js";
import { GatewayError } from "./errors.js";

// More callers than this waiting for a connection is no conversation any more.
const WAITING_REQUESTS = 256;
/** Ids of requests begin like this, ids of sends do not: an error names only the id. */
export const REQUEST_PREFIX = "rq:";

export class Requests {
  #surroundings;
  #link;
  #timeoutMs;
  #waiting = new Set();
  #pausing = new Set();
  #count = 0;

  /** link: carrier(frame) → the connection to ask on or null, refusal() → why there will be none, or null. */
  constructor(surroundings, link, timeoutMs) {
    this.#surroundings = surroundings;
    this.#link = link;
    this.#timeoutMs = timeoutMs;
  }

  nextId() {
    this.#count += 1;
    return `${REQUEST_PREFIX}${this.#count}`;
  }

  /** again: repeat it where the answer was lost or a retryable error; only for what may happen twice.
   *  take(answer) makes the result, before any later frame is read. */
  run(frame, { again = false, take = undefined } = {}) {
    return new Promise((resolve, reject) => {
      const deadline = this.#surroundings.now() + this.#timeoutMs;
      this.#start({ frame, again, take, resolve, reject, deadline, failures: 0, timer: null });
    });
  }

  /** There is a connection in charge: make what waited for it. */
  flush() {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const request of waiting) {
      this.#surroundings.clearTimeout(request.timer);
      this.#start(request);
    }
  }

  /** There will be no connection: refuse what waits. */
  fail(error) {
    for (const request of [...this.#waiting, ...this.#pausing]) {
      this.#surroundings.clearTimeout(request.timer);
      request.reject(error);
    }
    this.#waiting.clear();
    this.#pausing.clear();
  }

  async #start(request) {
    const connection = this.#link.carrier(request.frame);
    const timeoutMs = request.deadline - this.#surroundings.now();
    if (connection === null) {
      this.#wait(request, timeoutMs);
      return;
    }
    const frame = { ...request.frame, id: this.nextId() };
    if (!connection.fits(frame)) {
      request.reject(new GatewayError("too_large", `this ${frame.type} is too large`));
      return;
    }
    try {
      request.resolve(await connection.request(frame, { timeoutMs, take: request.take }));
    } catch (error) {
      this.#failed(request, error);
    }
  }

  #wait(request, ms) {
    const refusal = this.#link.refusal();
    if (refusal !== null) {
      request.reject(refusal);
      return;
    }
    if (this.#waiting.size >= WAITING_REQUESTS) {
      request.reject(new GatewayError("queue_full", "too many requests wait for a connection", true));
      return;
    }
    this.#waiting.add(request);
    request.timer = this.#surroundings.setTimeout(() => {
      this.#waiting.delete(request);
      request.reject(new GatewayError("timeout", `no connection for ${request.frame.type} in time`, true));
    }, ms);
  }

  #failed(request, error) {
    const mayHelp = error.retryable || error.code === "not_attached";
    request.failures += 1;
    const pauseMs = error.code === "connection_lost"
      ? 0
      : Math.max(jitter(this.#surroundings.random, request.failures), error.retryAfterMs ?? 0);
    const isInTime = this.#surroundings.now() + pauseMs < request.deadline;
    if (!request.again || !mayHelp || !isInTime) {
      request.reject(error);
    } else if (pauseMs === 0) {
      this.#start(request);
    } else {
      this.#pausing.add(request);
      request.timer = this.#surroundings.setTimeout(() => {
        this.#pausing.delete(request);
        this.#start(request);
      }, pauseMs);
    }
  }
}
