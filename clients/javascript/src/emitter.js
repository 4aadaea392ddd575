// Events by name. emit() is a function of this module and no method: those who listen to a session must not speak for it.

let listenersOf;

export class Emitter {
  #listeners = new Map();

  static {
    listenersOf = (emitter, event) => emitter.#listeners.get(event);
  }

  on(event, listener) {
    return this.#add(event, { listener, once: false });
  }

  once(event, listener) {
    return this.#add(event, { listener, once: true });
  }

  off(event, listener) {
    const kept = (this.#listeners.get(event) ?? []).filter((entry) => entry.listener !== listener);
    this.#listeners.set(event, kept);
    return this;
  }

  #add(event, entry) {
    // A new array each time: a listener may add or remove listeners while the event is being told.
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), entry]);
    return this;
  }
}

export function emit(emitter, event, ...details) {
  for (const entry of listenersOf(emitter, event) ?? []) {
    if (entry.once) {
      emitter.off(event, entry.listener);
    }
    try {
      entry.listener(...details);
    } catch (error) {
      // The page's fault must not cost other listeners the event, nor the client its state; it is not swallowed either.
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}
