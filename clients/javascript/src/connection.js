// One WebSocket from hello to close: frames in and out, requests and their answers, signs of life. It never reconnects.

import { GatewayError, connectionLost, errorFromFrame } from "./errors.js";
import { Heartbeat } from "./heartbeat.js";
import { byteLength } from "./surroundings.js";

// From the constructor to the welcome. The gateway itself waits 5 s for a hello.
const OPENING_MS = 10_000;
const SILENT = 4002;
const RESYNC = 4003;
const NEVER_OPENED = 1006;
const MESSAGE_BYTES = 65_536;

export class Connection {
  #surroundings;
  #listener;
  #socket = null;
  #heartbeat = null;
  #openingTimer = null;
  #requests = new Map();

  /** listener: greet(connection) → hello frame, seen() → delivered watermarks, and the events welcomed, frame, closed. */
  constructor(surroundings, listener) {
    this.#surroundings = surroundings;
    this.#listener = listener;
    /** opening → open → closed */
    this.state = "opening";
    this.welcome = null;
    /** When it was welcomed and when it was over, for whoever asks whether two overlapped. */
    this.openedAt = this.closedAt = Infinity;
    /** Session ids: listed in the hello, attached here, caught up here, asked to attach here. */
    this.listed = new Set();
    this.attached = new Set();
    this.live = new Set();
    this.asking = new Set();
    /** The last error that belonged to no request: it says why a close follows, and when to come again. */
    this.lastError = null;
    this.rttMs = null;
  }

  start(WebSocket, url) {
    this.#openingTimer = this.#surroundings.setTimeout(() => this.drop(SILENT, "no welcome in time"), OPENING_MS);
    try {
      this.#socket = new WebSocket(url, ["session.v1"]);
    } catch (error) {
      this.#finish(NEVER_OPENED, String(error?.message ?? error));
      return;
    }
    this.#socket.onopen = () => this.#send(this.#listener.greet(this));
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = (event) => this.#finish(event.code ?? NEVER_OPENED, event.reason ?? "");
    // A close event follows every error event and says more.
    this.#socket.onerror = () => {};
  }

  /** No request waits for its answer here. */
  get isIdle() {
    return this.#requests.size === 0;
  }

  /** Put a frame on the wire; false when there is none. */
  send(frame) {
    if (this.state !== "open") {
      return false;
    }
    this.#send(frame);
    return true;
  }

  /** Send a request and wait for its answer. take(answer), if given, is called before any frame that follows it is read. */
  request(frame, { timeoutMs, take = (answer) => answer }) {
    return new Promise((resolve, reject) => {
      const request = { take, resolve, reject, timer: null };
      request.timer = this.#surroundings.setTimeout(() => {
        this.#requests.delete(frame.id);
        reject(new GatewayError("timeout", `no answer to ${frame.type} within ${Math.round(timeoutMs)} ms`, true));
      }, timeoutMs);
      this.#requests.set(frame.id, request);
      if (!this.send(frame)) {
        this.#requests.delete(frame.id);
        this.#surroundings.clearTimeout(request.timer);
        reject(connectionLost());
      }
    });
  }

  /** Find out soon whether the other end is still there. */
  probe() {
    this.#heartbeat?.probe();
  }

  /** Say goodbye; the gateway keeps nothing for us. */
  close(code = 1000, reason = "") {
    this.drop(code, reason);
  }

  /** Give the socket up without waiting for the other end: a dead peer never answers a close. */
  drop(code, reason) {
    const socket = this.#socket;
    if (this.state === "closed") {
      return;
    }
    this.#finish(code, reason);
    try {
      socket?.close(code, reason);
    } catch {
      // Some WebSockets throw when they are closed before they were open; there is nothing left to close then.
    }
  }

  /** What a frame may weigh: the gateway's socket limit. Beyond it the connection would be closed with 1009. */
  get frameBytes() {
    return 4 * (this.welcome?.limits?.message_bytes ?? MESSAGE_BYTES) + 4096;
  }

  fits(frame) {
    const text = JSON.stringify(frame);
    return text.length * 3 <= this.frameBytes || byteLength(text) <= this.frameBytes;
  }

  #send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  #receive(data) {
    this.#heartbeat?.heard();
    if (typeof data !== "string") {
      return; // media chunks: this client reads no streams
    }
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      // Perhaps a message was in it. A fresh start brings it again.
      this.drop(RESYNC, "a frame could not be read");
      return;
    }
    if (frame.type === "welcome" && this.state === "opening") {
      this.#welcomed(frame);
      return;
    }
    if (frame.type === "error" && frame.id == null) {
      this.lastError = errorFromFrame(frame);
    }
    if (frame.type === "heartbeat") {
      this.#heartbeat?.answered();
      this.rttMs = this.#surroundings.now() - frame.ts;
    }
    this.#answer(frame);
    if (this.state === "open") {
      this.#listener.frame(this, frame);
    }
  }

  #welcomed(frame) {
    this.state = "open";
    this.welcome = frame;
    this.openedAt = this.#surroundings.now();
    this.#surroundings.clearTimeout(this.#openingTimer);
    const { interval_ms: intervalMs = 25_000, timeout_ms: timeoutMs = 60_000 } = frame.heartbeat ?? {};
    this.#heartbeat = new Heartbeat(this.#surroundings, { intervalMs, timeoutMs }, {
      beat: () => this.send({ type: "heartbeat", ts: this.#surroundings.now(), seen: this.#listener.seen() }),
      dead: () => this.drop(SILENT, "nothing was heard for too long"),
    });
    this.#heartbeat.start();
    this.#listener.welcomed(this, frame);
  }

  #answer(frame) {
    const request = frame.id == null ? undefined : this.#requests.get(frame.id);
    if (request === undefined) {
      return;
    }
    this.#requests.delete(frame.id);
    this.#surroundings.clearTimeout(request.timer);
    if (frame.type === "error") {
      request.reject(errorFromFrame(frame));
    } else {
      request.resolve(request.take(frame));
    }
  }

  #finish(code, reason) {
    if (this.state === "closed") {
      return;
    }
    this.state = "closed";
    this.closedAt = this.#surroundings.now();
    this.#surroundings.clearTimeout(this.#openingTimer);
    this.#heartbeat?.stop();
    if (this.#socket) {
      this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    }
    const waiting = [...this.#requests.values()];
    this.#requests.clear();
    for (const request of waiting) {
      this.#surroundings.clearTimeout(request.timer);
      request.reject(connectionLost());
    }
    this.#listener.closed(this, code, reason);
  }
}
