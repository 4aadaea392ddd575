// Keeps one connection known to be alive, from both ends.

const PROBE_MS = 5000;

export class Heartbeat {
  #surroundings;
  #intervalMs;
  #timeoutMs;
  #beat;
  #dead;
  #heardAt;
  #beatAt = 0;
  #beatTimer = null;
  #silenceTimer = null;
  #probeTimer = null;

  /** beat() sends one; dead() is called once when nothing has been heard for timeoutMs. */
  constructor(surroundings, { intervalMs, timeoutMs }, { beat, dead }) {
    this.#surroundings = surroundings;
    this.#intervalMs = intervalMs;
    this.#timeoutMs = timeoutMs;
    this.#beat = beat;
    this.#dead = dead;
    this.#heardAt = surroundings.now();
  }

  start() {
    // The first at a random moment: clients that came together must not beat together.
    this.#beatIn(this.#intervalMs * this.#surroundings.random());
    this.#watchIn(this.#timeoutMs);
  }

  stop() {
    for (const timer of [this.#beatTimer, this.#silenceTimer, this.#probeTimer]) {
      this.#surroundings.clearTimeout(timer);
    }
    this.#probeTimer = null;
  }

  /** Any frame is a sign of life. */
  heard() {
    this.#heardAt = this.#surroundings.now();
    this.#surroundings.clearTimeout(this.#probeTimer);
    this.#probeTimer = null;
  }

  /** Browsers slow down timers that were set by timers of a hidden page to one a minute, which the gateway would take for
   *  silence. Set from the answer's event, the next beat is no such timer. */
  answered() {
    const elapsed = this.#surroundings.now() - this.#beatAt;
    this.#beatIn(Math.max(0, this.#intervalMs - elapsed));
    this.#watchIn(this.#timeoutMs);
  }

  /** Ask now, and do not wait long for the answer: the page or the network was away. */
  probe() {
    if (this.#probeTimer !== null) {
      return;
    }
    this.#probeTimer = this.#surroundings.setTimeout(this.#dead, PROBE_MS);
    this.#send();
  }

  #send() {
    this.#beatAt = this.#surroundings.now();
    this.#beatIn(this.#intervalMs);
    this.#beat();
  }

  #beatIn(ms) {
    this.#surroundings.clearTimeout(this.#beatTimer);
    this.#beatTimer = this.#surroundings.setTimeout(() => this.#send(), ms);
  }

  #watchIn(ms) {
    this.#surroundings.clearTimeout(this.#silenceTimer);
    this.#silenceTimer = this.#surroundings.setTimeout(() => {
      const left = this.#heardAt + this.#timeoutMs - this.#surroundings.now();
      if (left > 0) {
        this.#watchIn(left);
      } else {
        this.#dead();
      }
    }, ms);
  }
}
