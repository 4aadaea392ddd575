// Events between the parts of the page.

export class Emitter {
  #listeners = new Map();

  /** Call `listener` at every `event`; the answer stops that. */
  on(event, listener) {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  emit(event, ...details) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) listener(...details);
  }
}
