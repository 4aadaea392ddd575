// A client in surroundings that the test controls: clock, chance, network, page, and a model of the gateway at the other end.

import { connect } from "../../src/index.js";
import { FakeClock, settle } from "./clock.js";
import { ModelGateway } from "./gateway.js";
import { FakeNetwork } from "./network.js";

class FakeTarget {
  #listeners = new Map();

  addEventListener(type, listener) {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  removeEventListener(type, listener) {
    this.#listeners.set(type, (this.#listeners.get(type) ?? []).filter((other) => other !== listener));
  }

  dispatch(type) {
    for (const listener of this.#listeners.get(type) ?? []) {
      listener();
    }
  }

  get listenerCount() {
    return [...this.#listeners.values()].flat().length;
  }
}

export class FakeStorage {
  constructor() {
    this.items = new Map();
    this.writes = 0;
  }

  getItem(key) {
    return this.items.get(key) ?? null;
  }

  setItem(key, value) {
    this.writes += 1;
    this.items.set(key, value);
  }
}

export class World {
  constructor() {
    this.clock = new FakeClock();
    this.network = new FakeNetwork();
    this.gateway = new ModelGateway({ now: () => this.clock.now });
    this.document = Object.assign(new FakeTarget(), { visibilityState: "visible" });
    this.window = new FakeTarget();
    this.hasNetwork = true;
    /** What chance gives; 0.5 makes every wait half its longest. */
    this.chance = () => 0.5;
    this.ids = 0;
    this.network.received = (socket, frame) => this.gateway.received(socket, frame);
    this.network.left = (socket) => this.gateway.left(socket);
  }

  connect(options = {}) {
    const client = connect("wss://gateway.example/ws", {
      token: "token-1",
      WebSocket: this.network.WebSocket,
      surroundings: {
        now: () => this.clock.now,
        setTimeout: (callback, ms) => this.clock.setTimeout(callback, ms),
        clearTimeout: (timer) => this.clock.clearTimeout(timer),
        random: () => this.chance(),
        newId: () => {
          this.ids += 1;
          return `c-${this.ids}`;
        },
        document: this.document,
        window: this.window,
        hasNetwork: () => this.hasNetwork,
      },
      ...options,
    });
    client.states = [];
    client.on("state", (state) => client.states.push(state.name));
    return client;
  }

  /** A client that is online and a session of it that is live. */
  async online(options, { since = 0 } = {}) {
    this.gateway.session("s1");
    const client = this.connect(options);
    const session = client.attach("s1", { since });
    const seen = record(session);
    await settle();
    return { client, session, seen, socket: this.network.last };
  }

  get socket() {
    return this.network.last;
  }

  /** The page goes without a word: no script of it runs any more. */
  unload() {
    this.clock.clear();
    for (const socket of this.network.sockets) {
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      socket.end(1001);
    }
  }

  show(visibilityState) {
    this.document.visibilityState = visibilityState;
    this.document.dispatch("visibilitychange");
  }

  setNetwork(hasNetwork) {
    this.hasNetwork = hasNetwork;
    this.window.dispatch(hasNetwork ? "online" : "offline");
  }
}

/** What a session tells, by event. */
export function record(session) {
  const seen = {};
  for (const event of ["message", "outgoing", "attached", "live", "session", "signal", "presence", "read", "gap", "ended"]) {
    seen[event] = [];
    session.on(event, (detail) => seen[event].push(event === "outgoing" ? { ...detail } : detail));
  }
  Object.defineProperty(seen, "seqs", { get: () => seen.message.map(({ seq }) => seq) });
  return seen;
}

/** What became of a promise. */
export async function outcome(promise) {
  let seen = { state: "pending" };
  promise.then(
    (value) => {
      seen = { state: "resolved", value };
    },
    (error) => {
      seen = { state: "rejected", error };
    },
  );
  await settle();
  return seen;
}

export function random(seed) {
  // mulberry32: chance that a failing test can be run with again.
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export { settle };
