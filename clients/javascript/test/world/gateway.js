// A model of the gateway: as small as it can be and still keep the promises of the wire. A socket here is anything with
// deliver(frame) and end(code). Faults are made by the tests, through intercept() and the sockets.

const LIMITS = { message_bytes: 65_536 };

export class ModelGateway {
  constructor({ now = () => Date.now(), user = "alice" } = {}) {
    Object.assign(this, { now, user });
    this.sessions = new Map();
    this.connections = new Map();
    this.resumes = new Map();
    this.heartbeat = { interval_ms: 25_000, timeout_ms: 60_000 };
    this.counter = 0;
    /** (socket, frame) → true when the test has dealt with the frame itself. */
    this.intercept = () => false;
  }

  session(id) {
    if (!this.sessions.has(id)) {
      this.sessions.set(id, { id, messages: [], acks: new Map(), title: `title of ${id}`, isClosed: false });
    }
    return this.sessions.get(id);
  }

  /** A message from somebody else. */
  post(sessionId, content, { sender = "bob", clientId = null, role = "user", metadata = {} } = {}) {
    const session = this.session(sessionId);
    const seq = session.messages.length + 1;
    const message = {
      type: "message", session: sessionId, seq, id: `uuid-${sessionId}-${seq}`, client_id: clientId, sender, role,
      content, metadata, created_at: new Date(this.now()).toISOString(),
    };
    session.messages.push(message);
    for (const [socket, connection] of this.connections) {
      if (connection.cursors.get(sessionId) === seq - 1) {
        connection.cursors.set(sessionId, seq);
        socket.deliver(message);
      }
    }
    return message;
  }

  received(socket, frame) {
    if (!this.intercept(socket, frame)) {
      this.handle(socket, frame);
    }
  }

  handle(socket, frame) {
    const handler = this[`on_${frame.type}`];
    if (handler === undefined) {
      this.error(socket, frame, "unknown_type");
    } else {
      handler.call(this, socket, frame);
    }
  }

  left(socket) {
    const connection = this.connections.get(socket);
    if (connection) {
      this.resumes.set(connection.resume, new Map(connection.cursors));
      this.connections.delete(socket);
    }
  }

  error(socket, { id, session }, code, more = {}) {
    socket.deliver({ type: "error", id, ...(id === undefined && { session }), code, message: code, retryable: false, ...more });
  }

  on_hello(socket, frame) {
    this.counter += 1;
    const name = `connection-${this.counter}`;
    const record = this.resumes.get(frame.resume);
    this.resumes.delete(frame.resume);
    const connection = { name, resume: `resume-${this.counter}`, cursors: new Map() };
    this.connections.set(socket, connection);
    socket.deliver({
      type: "welcome", connection: name, user: this.user, tenant: "default", node: "n1", resume: connection.resume,
      resumed: record !== undefined, heartbeat: this.heartbeat, limits: LIMITS, now: new Date(this.now()).toISOString(),
    });
    const wanted = new Map(record);
    for (const { session, since } of frame.attach) {
      wanted.set(session, since);
    }
    for (const [session, since] of wanted) {
      this.on_attach(socket, { session, since });
    }
  }

  on_open(socket, frame) {
    this.counter += 1;
    this.session(`opened-${this.counter}`).title = frame.title ?? "";
    this.on_attach(socket, { id: frame.id, session: `opened-${this.counter}`, since: 0 });
  }

  on_attach(socket, frame) {
    const session = this.sessions.get(frame.session);
    if (session === undefined || session.isClosed) {
      this.error(socket, frame, session ? "closed" : "not_found");
      return;
    }
    const { cursors } = this.connections.get(socket);
    const head = session.messages.length;
    const since = frame.since ?? head;
    if (since > head) {
      this.error(socket, frame, "bad_request");
      return;
    }
    socket.deliver({
      type: "attached", id: frame.id, session: session.id, head, since, epoch: 1, state: "active",
      title: session.title, role: "owner",
    });
    for (const message of session.messages.slice(since)) {
      socket.deliver(message);
    }
    cursors.set(session.id, head);
    socket.deliver({ type: "live", session: session.id, seq: head });
  }

  on_detach(socket, frame) {
    this.connections.get(socket).cursors.delete(frame.session);
    socket.deliver({ type: "detached", id: frame.id, session: frame.session });
  }

  on_send(socket, frame) {
    const { id, session: sessionId, content, role, metadata } = frame;
    if (!this.connections.get(socket)?.cursors.has(sessionId)) {
      this.error(socket, frame, "not_attached");
      return;
    }
    const session = this.session(sessionId);
    const earlier = session.acks.get(id);
    if (earlier) {
      const isSame = session.messages[earlier.seq - 1].content === content;
      if (isSame) {
        socket.deliver({ ...earlier, duplicate: true });
      } else {
        this.error(socket, frame, "id_conflict");
      }
      return;
    }
    const { seq } = this.post(sessionId, content, { sender: this.user, clientId: id, role, metadata });
    const ack = { type: "ack", id, session: sessionId, seq, ts: this.now(), duplicate: false };
    session.acks.set(id, ack);
    if (!this.loseAck?.(socket, frame)) {
      socket.deliver(ack);
    }
  }

  on_history(socket, { id, session, before, after, limit = 50 }) {
    const { messages } = this.session(session);
    const page = after === undefined
      ? messages.filter(({ seq }) => seq < (before ?? Infinity)).slice(-limit)
      : messages.slice(after, after + limit);
    const more = after === undefined ? page.length > 0 && page[0].seq > 1 : after + limit < messages.length;
    socket.deliver({ type: "history", id, session, messages: page, head: messages.length, more });
  }

  on_read() {}

  on_signal() {}

  on_presence(socket, { id, session }) {
    const users = [{ user: this.user, connections: 1, since: new Date(this.now()).toISOString() }];
    socket.deliver({ type: "presence", id, session, users });
  }

  on_update(socket, { id, session }) {
    socket.deliver({ type: "updated", id, session, version: 7 });
  }

  on_close(socket, { id, session }) {
    this.session(session).isClosed = true;
    socket.deliver({ type: "session", session, event: "closed", version: 8, changes: {} });
    socket.deliver({ type: "closed", id, session });
  }

  on_heartbeat(socket, { ts }) {
    const sessions = {};
    for (const id of this.connections.get(socket).cursors.keys()) {
      sessions[id] = { head: this.session(id).messages.length, ttl_ms: 3_600_000 };
    }
    socket.deliver({ type: "heartbeat", ts, now: this.now(), sessions });
  }

  on_refresh(socket, { id }) {
    socket.deliver({ type: "refreshed", id, expires_at: new Date(this.now() + 3_600_000).toISOString() });
  }
}
