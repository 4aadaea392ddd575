// Sockets without a network: one WebSocket class for the client, the other ends of its sockets for the test.

export class FakeSocket {
  constructor(network, url, protocols) {
    Object.assign(this, { network, url, protocols, readyState: 0, sent: [], closedWith: null });
    this.onopen = this.onmessage = this.onclose = this.onerror = null;
  }

  // ---- the client's end

  send(text) {
    if (this.readyState !== 1) {
      throw new Error("send on a socket that is not open");
    }
    const frame = JSON.parse(text);
    this.sent.push(frame);
    queueMicrotask(() => {
      if (this.readyState === 1 && !this.isDeaf) {
        this.network.received(this, frame);
      }
    });
  }

  close(code, reason) {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new Error(`a browser refuses close code ${code}`);
    }
    if (this.readyState < 2) {
      this.closedWith = { code, reason };
      this.readyState = 3;
      this.network.left(this);
    }
  }

  // ---- the other end

  accept() {
    this.readyState = 1;
    this.onopen?.({});
  }

  deliver(frame) {
    if (this.readyState === 1) {
      this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
    }
  }

  /** The other end closes, or (1006) is gone. */
  end(code = 1006, reason = "") {
    if (this.readyState < 2) {
      this.readyState = 3;
      this.network.left(this);
      if (code === 1006) {
        this.onerror?.({});
      }
      this.onclose?.({ code, reason });
    }
  }

  get hello() {
    return this.sent[0];
  }

  sentOf(type) {
    return this.sent.filter((frame) => frame.type === type);
  }
}

export class FakeNetwork {
  constructor() {
    this.sockets = [];
    /** What happens to a new socket; the test replaces it. */
    this.opened = (socket) => socket.accept();
    this.received = () => {};
    this.left = () => {};
    const network = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url, protocols) {
        super(network, url, protocols);
        network.sockets.push(this);
        queueMicrotask(() => this.readyState === 0 && network.opened(this));
      }
    };
  }

  get last() {
    return this.sockets.at(-1);
  }
}
