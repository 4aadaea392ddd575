// The client: puts the parts together and is what a page holds in its hands.

import { Attachments } from "./attachments.js";
import { Credentials } from "./credentials.js";
import { dispatch } from "./dispatch.js";
import { Echoes } from "./echoes.js";
import { Emitter, emit } from "./emitter.js";
import { GatewayError } from "./errors.js";
import { Link } from "./link.js";
import { Marks } from "./marks.js";
import { Outbox } from "./outbox.js";
import { REQUEST_PREFIX, Requests } from "./requests.js";
import { Session } from "./session.js";
import { welcomeFrom } from "./shapes.js";
import { Shelf } from "./shelf.js";
import { Shipment } from "./shipment.js";
import { surroundingsWith } from "./surroundings.js";

export const VERSION = "1.0.0";

const OUTBOX = { entries: 500, bytes: 1024 * 1024, window: 1 };
const REQUEST_MS = 10_000;
const ID_CHARACTERS = 64;

/** What a closed connection means to those who wait. */
const CLOSED_AS = new Map([[4500, "unauthenticated"], [4502, "superseded"], [4503, "forbidden"]]);

export class Client extends Emitter {
  #surroundings;
  #info;
  #link;
  #credentials;
  #attachments;
  #outbox;
  #requests;
  #marks;
  #sessions = new Map();
  #welcome = null;
  #parts;
  #isDone = false;

  constructor(url, options = {}) {
    super();
    const { requestTimeoutMs: timeoutMs = REQUEST_MS } = options;
    this.#surroundings = surroundingsWith(options.surroundings);
    this.#info = options.client ?? { name: "js", version: VERSION };
    this.#credentials = new Credentials(this.#surroundings, options);
    const WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!WebSocket) {
      throw new GatewayError("unsupported", "there is no WebSocket here: give one in the options (in Node before 22: ws)");
    }
    this.#link = new Link(this.#surroundings, { WebSocket, url: socketUrl(url) }, this.#credentials, this.#linkHooks());
    this.#requests = new Requests(this.#surroundings, this.#requestLink(), timeoutMs);
    this.#attachments = new Attachments(this.#surroundings, this.#attachmentServices(timeoutMs));
    this.#marks = new Marks(this.#surroundings, (attachment) => this.#mark(attachment));
    const shelf = new Shelf(options.storage, options.storageKey ?? "gateway.outbox", (error) => this.#report(error));
    this.#outbox = new Outbox(this.#surroundings, { ...OUTBOX, ...options.outbox }, shelf, {
      carrier: (session) => (this.#link.current?.attached.has(session) ? this.#link.current : null),
      ackTimeoutMs: timeoutMs,
      changed: (entry) => this.#outgoing(entry),
      unattached: (session) => this.#attachAgain(session),
    });
    this.#parts = this.#dispatchParts();
    this.#link.start();
  }

  get state() {
    return this.#link.state;
  }

  get user() {
    return this.#welcome?.user ?? null;
  }

  get tenant() {
    return this.#welcome?.tenant ?? null;
  }

  get connection() {
    return this.#welcome?.connection ?? null;
  }

  get node() {
    return this.#welcome?.node ?? null;
  }

  get limits() {
    return this.#welcome?.limits ?? {};
  }

  get rttMs() {
    return this.#link.current?.rttMs ?? null;
  }

  get sessions() {
    return this.#sessions;
  }

  get pending() {
    return this.#outbox.entries;
  }

  ready() {
    return new Promise((resolve, reject) => {
      const look = () => {
        const { state } = this;
        if (state.name === "online") {
          resolve(this);
        } else if (state.name === "closed") {
          reject(closedError(state));
        } else {
          this.once("state", look);
        }
      };
      look();
    });
  }

  open(options = {}) {
    const { title, persistent, ttl, exclusive, context, metadata, text, voice } = options;
    return this.#requests.run(
      { type: "open", title, persistent, ttl, exclusive, context, metadata, text, voice },
      // Before the frames that follow: the first messages must find their session.
      { take: (frame) => this.#adopt(frame.session, frame.since ?? 0) },
    );
  }

  attach(sessionId, { since = null } = {}) {
    if (this.#isDone) {
      throw closedError(this.state);
    }
    const known = this.#sessions.get(sessionId);
    if (known) {
      return known;
    }
    const session = this.#adopt(sessionId, since);
    this.#attachments.attach(this.#attachments.get(sessionId));
    return session;
  }

  reconnect() {
    if (this.#isDone) {
      return;
    }
    if (this.state.name === "closed") {
      this.#link.start();
    } else {
      this.#link.wake();
    }
  }

  close() {
    if (this.#isDone) {
      return;
    }
    this.#isDone = true;
    this.#marks.flush();
    const error = new GatewayError("closed", "the client was closed");
    this.#outbox.abandon(error);
    this.#link.stop(1000, "", "This client has ended the conversation.");
    this.#attachments.lost();
    for (const session of [...this.#sessions.keys()]) {
      this.#attachments.end(this.#attachments.get(session), error);
    }
  }

  // ---- what the parts ask and tell

  #linkHooks() {
    return {
      greet: (connection, credential) =>
        this.#attachments.greet(connection, { type: "hello", ...credential, client: this.#info }),
      seen: () => this.#attachments.seen(),
      isSettled: (connection) => this.#attachments.isSettled(connection),
      stateChanged: (state) => emit(this, "state", state),
      welcomed: (connection, frame) => this.#welcomed(connection, frame),
      frame: (connection, frame) => dispatch(this.#parts, connection, frame),
      lost: (connection) => this.#lost(connection),
      closed: (state) => this.#requests.fail(closedError(state)),
      report: (error) => this.#report(error),
    };
  }

  #requestLink() {
    return {
      // To detach is asked of the one that goes on.
      carrier: ({ type, session }) => (type === "detach" ? this.#link.current : this.#link.serving(session)),
      refusal: () => (this.state.name === "closed" ? closedError(this.state) : null),
    };
  }

  #dispatchParts() {
    return {
      link: this.#link,
      attachments: this.#attachments,
      outbox: this.#outbox,
      requests: this.#requests,
      credentials: this.#credentials,
      echoes: new Echoes(() => this.#surroundings.now()),
      tell: (event, attachment, detail) => this.#tell(event, attachment, detail),
      report: (error) => this.#report(error),
    };
  }

  #attachmentServices(timeoutMs) {
    return {
      timeoutMs,
      current: () => this.#link.current,
      nextId: () => this.#requests.nextId(),
      message: (attachment, message) => this.#tell("message", attachment, message),
      gap: (attachment, gap) => this.#tell("gap", attachment, gap),
      attached: (attachment) => this.#attached(attachment),
      live: (attachment, seq) => this.#tell("live", attachment, { seq }),
      ended: (attachment, error) => this.#ended(attachment, error),
      settled: () => this.#link.check(),
    };
  }

  #sessionServices() {
    return {
      surroundings: this.#surroundings,
      current: () => this.#link.current,
      serving: (session) => this.#link.serving(session),
      pending: () => this.#outbox.entries,
      send: (attachment, content, options) => this.#send(attachment, content, options),
      read: (attachment, seq) => this.#marks.add(attachment, seq),
      request: (frame, options) => this.#requests.run(frame, options),
      end: (attachment, error) => this.#attachments.end(attachment, error),
      detach: (attachment) => this.#detach(attachment),
    };
  }

  #welcomed(connection, frame) {
    this.#welcome = welcomeFrom(frame);
    this.#outbox.identified(frame.user, frame.tenant);
    this.#outbox.moved(connection);
    this.#attachments.welcomed(connection);
    this.#requests.flush();
    emit(this, "welcome", this.#welcome);
  }

  #report(error) {
    if (!this.#isDone) {
      emit(this, "error", error);
    }
  }

  #lost(connection) {
    if (connection === this.#link.current) {
      this.#outbox.moved(null);
      this.#attachments.lost();
    }
  }

  #adopt(id, since) {
    const known = this.#sessions.get(id);
    if (known) {
      return known;
    }
    const attachment = this.#attachments.add(id, since);
    attachment.session = new Session(attachment, this.#sessionServices());
    this.#sessions.set(id, attachment.session);
    return attachment.session;
  }

  #tell(event, attachment, detail) {
    const session = attachment?.session ?? null;
    if (session !== null) {
      emit(session, event, detail);
    }
    emit(this, event, detail, session);
  }

  #attached(attachment) {
    this.#tell("attached", attachment, attachment.session);
    this.#marks.repeat(attachment);
    this.#outbox.flush(attachment.id);
  }

  #ended(attachment, error) {
    this.#outbox.fail(error, attachment.id);
    // Before the event: who hears it may attach to the same session again.
    this.#sessions.delete(attachment.id);
    this.#tell("ended", attachment, error);
  }

  #attachAgain(id) {
    const attachment = this.#attachments.get(id);
    if (attachment) {
      this.#link.current?.attached.delete(id);
      this.#attachments.attach(attachment);
    }
  }

  #send(attachment, content, options) {
    const refusal = this.#refusalOf(attachment, content, options.id);
    if (refusal === null) {
      return this.#outbox.add(attachment.id, content, options);
    }
    const { role = "user", metadata = {}, id = this.#surroundings.newId() } = options;
    const createdAt = this.#surroundings.now();
    const shipment = new Shipment({ session: attachment.id, id, content: String(content), role, metadata, createdAt });
    shipment.failed(refusal);
    this.#outgoing(shipment.entry);
    return shipment.sending;
  }

  #refusalOf(attachment, content, id) {
    if (attachment.ended !== null) {
      return attachment.ended;
    }
    if (typeof content !== "string") {
      return new GatewayError("bad_request", "content must be a string");
    }
    const isIdGood = id === undefined
      || (typeof id === "string" && id !== "" && id.length <= ID_CHARACTERS && !id.startsWith(REQUEST_PREFIX));
    return isIdGood ? null : new GatewayError("bad_request", `id must be a string of 1 to ${ID_CHARACTERS} characters`);
  }

  #outgoing(entry) {
    const session = this.#sessions.get(entry.session) ?? null;
    if (session !== null) {
      emit(session, "outgoing", entry);
    }
    emit(this, "outgoing", entry, session);
  }

  #mark(attachment) {
    const connection = this.#link.current;
    if (attachment.readSeq > 0 && connection?.attached.has(attachment.id)) {
      connection.send({ type: "read", session: attachment.id, seq: attachment.readSeq });
    }
  }

  async #detach(attachment) {
    if (attachment.ended !== null) {
      return;
    }
    const connection = this.#link.current;
    this.#attachments.end(attachment, new GatewayError("detached", "the session was detached by this client"));
    if (connection?.attached.delete(attachment.id) || connection?.asking.has(attachment.id)) {
      await this.#requests.run({ type: "detach", session: attachment.id }).catch(() => {
        // Not attached, or the connection is gone: detached either way.
      });
    }
  }
}

function closedError({ code, why }) {
  return new GatewayError(CLOSED_AS.get(code) ?? "closed", why ?? "the client was closed");
}

/** ws(s):// from whatever names the gateway. */
function socketUrl(url) {
  const absolute = new URL(url, globalThis.location?.href);
  absolute.protocol = absolute.protocol.replace(/^http/, "ws");
  absolute.hash = "";
  return absolute.href;
}
