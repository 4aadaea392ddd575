// What both sockets of a move bring, and has no seq to be known by: signals, presence, read markers.

/** Two nodes bring the same within milliseconds of each other; what is as old as this comes from one only. */
const APART_MS = 2000;
/** The last ones taken. Of a flood above this some may be told twice in the moment of a move. */
const KEPT = 64;

export class Echoes {
  #now;
  /** {at, connection, text} of what was taken, the oldest first. */
  #taken = [];

  constructor(now) {
    this.#now = now;
  }

  /** Whether this is news, on the connection whose frames count. */
  takes(connection, frame) {
    if (this.passes(connection, frame)) {
      return false;
    }
    this.#taken.push({ at: this.#now(), connection, text: JSON.stringify(frame) });
    if (this.#taken.length > KEPT) {
      this.#taken.shift();
    }
    return true;
  }

  /** Whether it is what another connection has brought that overlapped with this one: its echo, of which there is one. */
  passes(connection, frame) {
    const oldest = this.#now() - APART_MS;
    while (this.#taken.length > 0 && this.#taken[0].at < oldest) {
      this.#taken.shift();
    }
    // One that was lost before this one came has none: what it brought may well happen again.
    const isOther = (each) => each.connection !== connection && each.connection.closedAt >= connection.openedAt;
    if (!this.#taken.some(isOther)) {
      return false;
    }
    const text = JSON.stringify(frame);
    const place = this.#taken.findIndex((each) => isOther(each) && each.text === text);
    if (place >= 0) {
      this.#taken.splice(place, 1);
    }
    return place >= 0;
  }
}
