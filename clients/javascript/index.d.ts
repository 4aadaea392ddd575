// The whole public interface. Names are camelCase here and snake_case on the wire.

/** Anything JSON can hold; the gateway refuses integers beyond 2^53-1, NUL characters and a depth beyond 32. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Document = { [key: string]: Json };

export type Role = "user" | "assistant" | "system" | "tool";
export type MemberRole = "owner" | "writer" | "reader";
export type SessionState = "connecting" | "active" | "idle" | "disconnecting" | "closed";

/** Codes of the protocol, and the client's own: the last six. */
export type ErrorCode =
  | "bad_request" | "too_large" | "unknown_type" | "unauthenticated" | "forbidden" | "not_found"
  | "id_conflict" | "not_attached" | "closed" | "expired" | "superseded" | "limit_reached"
  | "rate_limited" | "unavailable" | "internal"
  | "timeout"          // no answer within requestTimeoutMs
  | "connection_lost"  // the connection went while the request was under way; whether it took effect is unknown
  | "queue_full"       // the outbox or the queue of waiting requests is at its bound
  | "detached"         // the session was detached by this client
  | "storage"          // the storage given to connect() refused to keep the outbox
  | "unsupported";     // there is no WebSocket here and none was given

export class GatewayError extends Error {
  constructor(code: ErrorCode | (string & {}), message: string, retryable?: boolean, retryAfterMs?: number | null);
  readonly name: "GatewayError";
  readonly code: ErrorCode | (string & {});
  readonly retryable: boolean;
  readonly retryAfterMs: number | null;
}

// ---------------------------------------------------------------- connect

export interface WebSocketLike {
  readonly readyState: number;
  send(data: string): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
}
export type WebSocketConstructor = new (url: string, protocols?: string | string[]) => WebSocketLike;

/** sessionStorage fits. Shared storage (localStorage) needs a storageKey of its own for each open page. */
export interface OutboxStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/** What the client takes from its surroundings; tests put their own here. */
export interface Surroundings {
  now(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: any): void;
  random(): number;
  newId(): string;
  /** Null where there is no page (Node). */
  document: { readonly visibilityState: string; addEventListener(type: string, listener: () => void): void;
    removeEventListener(type: string, listener: () => void): void } | null;
  window: { addEventListener(type: string, listener: () => void): void;
    removeEventListener(type: string, listener: () => void): void } | null;
  /** False only when it is certain that there is no network. */
  hasNetwork(): boolean;
}

export interface Options {
  /** A token that outlives the client. For any other, give getToken or getTicket. */
  token?: string;
  /** Called before every connection and when the gateway says that the token expires. */
  getToken?: () => string | Promise<string>;
  /** Called before every connection: a one-time ticket of POST /api/v1/tickets. */
  getTicket?: () => string | Promise<string>;
  /** Needed in Node before 22; `ws` fits. */
  WebSocket?: WebSocketConstructor;
  /** Told to the gateway. Default {name: "js", version: <of this package>}. */
  client?: { name: string; version: string };
  /** Keeps unacked sends over a page reload. */
  storage?: OutboxStorage;
  /** Default "gateway.outbox". */
  storageKey?: string;
  /** Default 10000. */
  requestTimeoutMs?: number;
  outbox?: {
    /** Unacked sends held at most; default 500. At the bound send() is refused with queue_full. */
    entries?: number;
    /** Bytes of content and metadata held at most; default 1 MiB. */
    bytes?: number;
    /** Sends of one session under way at once. 1 (the default) keeps their order even when one is refused and tried again. */
    window?: number;
  };
  surroundings?: Partial<Surroundings>;
}

/** Start a client. It connects at once and stays connected until close().
 *  url: ws(s)://, http(s)://, or relative to the page ("/ws"). */
export function connect(url: string | URL, options?: Options): Client;

// ---------------------------------------------------------------- client

export type ClientState =
  | { readonly name: "connecting" }
  | { readonly name: "online" }
  /** retryAt: wall clock ms of the next try; null while a try is being made. */
  | { readonly name: "reconnecting"; readonly attempt: number; readonly retryAt: number | null; readonly why: string }
  | { readonly name: "offline" }
  /** It will not reconnect by itself. why: a sentence for a person. */
  | { readonly name: "closed"; readonly code: number; readonly reason: string; readonly why: string };

export interface Welcome {
  connection: string;
  user: string;
  tenant: string;
  node: string;
  /** False when this is a fresh connection and not the continuation of a lost one. Messages are complete in both cases. */
  resumed: boolean;
  limits: { [name: string]: number };
}

/** Session events reach the client too, with the session as second argument. */
export interface ClientEvents {
  state: (state: ClientState) => void;
  welcome: (welcome: Welcome) => void;
  /** An error that belongs to no request: of the gateway, of the token provider, of the storage. */
  error: (error: GatewayError) => void;
  message: (message: Message, session: Session) => void;
  outgoing: (entry: Outgoing, session: Session | null) => void;
  attached: (session: Session, same: Session) => void;
  live: (event: { seq: number }, session: Session) => void;
  session: (event: SessionChange, session: Session) => void;
  /** session is null for a signal to the user, e.g. name "session.joined". */
  signal: (signal: Signal, session: Session | null) => void;
  presence: (event: PresenceChange, session: Session) => void;
  read: (event: ReadMark, session: Session) => void;
  gap: (event: Gap, session: Session) => void;
  ended: (error: GatewayError, session: Session) => void;
}

export interface OpenOptions {
  title?: string;
  persistent?: boolean;
  /** Seconds. */
  ttl?: number;
  exclusive?: boolean;
  context?: Document;
  metadata?: Document;
  text?: string;
  voice?: string;
}

export class Client {
  private constructor();
  readonly state: ClientState;
  /** Known after the first welcome, like tenant, connection, node. */
  readonly user: string | null;
  readonly tenant: string | null;
  readonly connection: string | null;
  readonly node: string | null;
  readonly limits: { readonly [name: string]: number };
  /** Of the last heartbeat; null before it. */
  readonly rttMs: number | null;
  /** Attached sessions, by id. */
  readonly sessions: ReadonlyMap<string, Session>;
  /** Every unacked send, oldest first; with a storage also those of before the reload. */
  readonly pending: readonly Outgoing[];

  on<E extends keyof ClientEvents>(event: E, listener: ClientEvents[E]): this;
  once<E extends keyof ClientEvents>(event: E, listener: ClientEvents[E]): this;
  off<E extends keyof ClientEvents>(event: E, listener: ClientEvents[E]): this;

  /** Resolves when online; rejects when the client is closed instead. */
  ready(): Promise<this>;
  /** Make a session and attach to it. Not repeated by itself after connection_lost: it may have been made. */
  open(options?: OpenOptions): Promise<Session>;
  /** Attach, now or as soon as there is a connection, and again after each reconnect.
   *  since absent: only what is new; 0: from the beginning; n: what follows seq n.
   *  Returns at once, so that no message passes before listeners are in place; see session.ready.
   *  The same session object for an id that is attached already (since is ignored then). */
  attach(sessionId: string, options?: { since?: number }): Session;
  /** Try now instead of at retryAt; after "closed" begin anew, with sessions and unacked sends as they were. */
  reconnect(): void;
  /** Close for good with 1000. Unacked sends are rejected; those in a storage are sent by the next client. */
  close(): void;
}

// ---------------------------------------------------------------- session

export interface Message {
  session: string;
  seq: number;
  /** The gateway's id (UUID). */
  id: string;
  /** The sender's id for it: equals Outgoing.id of what this client sent. */
  clientId: string | null;
  sender: string;
  role: Role;
  content: string;
  metadata: Document;
  /** RFC 3339, UTC. */
  createdAt: string;
}

export interface Ack {
  seq: number;
  /** Milliseconds since the epoch. */
  ts: number;
  /** True when the gateway had it already (the first ack was lost). */
  duplicate: boolean;
}

/** A message of this client on its way. The object changes in place; every change is an "outgoing" event. */
export interface Outgoing {
  readonly session: string;
  readonly id: string;
  readonly content: string;
  readonly role: Role;
  readonly metadata: Document;
  /** Wall clock ms of the send() call. */
  readonly createdAt: number;
  /** sending: not acked yet, with or without network. sent: committed. failed: refused for good; see error. */
  readonly state: "sending" | "sent" | "failed";
  readonly attempts: number;
  readonly seq: number | null;
  readonly ts: number | null;
  readonly error: GatewayError | null;
}

/** Resolves at the ack. A rejection that nobody waits for is no unhandled rejection: the entry tells it too. */
export type Sending = Promise<Ack> & { readonly entry: Outgoing };

export interface SendOptions {
  role?: Role;
  metadata?: Document;
  /** Idempotency key, at most 64 characters; made up when absent. To try a failed entry again, send with its id. */
  id?: string;
}

export interface Signal {
  name: string;
  data: Json;
  /** Null for a signal from the gateway itself. */
  sender: string | null;
  connection: string | null;
}
export interface PresenceChange { event: "join" | "leave"; user: string; connections: number }
export interface PresenceUser { user: string; connections: number; since: string }
export interface ReadMark { user: string; seq: number }
/** Messages were missed on the wire; the client attaches again from cursor, and "message" brings them. */
export interface Gap { cursor: number; head: number }
export interface SessionChange {
  event: "updated" | "archived" | "expired" | "deleted" | "superseded" | "closed" | (string & {});
  version: number | null;
  changes: Document;
}
export interface HistoryPage { messages: Message[]; head: number; more: boolean }
export interface Change { title?: string; context?: Document; metadata?: Document; status?: "active" | "archived" }

export interface SessionEvents {
  /** Each seq after the cursor once, in order. */
  message: (message: Message) => void;
  outgoing: (entry: Outgoing) => void;
  /** Attached, first or again: title, role, head … are fresh. */
  attached: (session: Session) => void;
  /** Caught up; from here on as it happens. */
  live: (event: { seq: number }) => void;
  session: (event: SessionChange) => void;
  signal: (signal: Signal) => void;
  presence: (event: PresenceChange) => void;
  read: (event: ReadMark) => void;
  gap: (event: Gap) => void;
  /** Over for this client: closed, expired, superseded, not_found, detached … It is not attached again by itself. */
  ended: (error: GatewayError) => void;
}

export class Session {
  private constructor();
  readonly id: string;
  /** Resolves when attached for the first time; rejects when that is refused. */
  readonly ready: Promise<Session>;
  readonly title: string | null;
  /** Null before the first "attached", like state, epoch, cursor (unless since was given). */
  readonly role: MemberRole | null;
  readonly state: SessionState | null;
  readonly epoch: number | null;
  readonly version: number | null;
  /** The last seq delivered. */
  readonly cursor: number | null;
  /** The highest seq known. */
  readonly head: number;
  /** Attached on the current connection. */
  readonly attached: boolean;
  /** Attached and caught up. */
  readonly live: boolean;
  /** Why it is over; null while it is not. */
  readonly ended: GatewayError | null;
  /** Unacked sends of this session, oldest first. */
  readonly pending: readonly Outgoing[];

  on<E extends keyof SessionEvents>(event: E, listener: SessionEvents[E]): this;
  once<E extends keyof SessionEvents>(event: E, listener: SessionEvents[E]): this;
  off<E extends keyof SessionEvents>(event: E, listener: SessionEvents[E]): this;

  /** What is delivered from now on. Ends when the session ends or is detached. A slow reader holds at most
   *  1000 messages here; beyond that the iterator reads the rest from the history. */
  messages(): AsyncIterableIterator<Message>;
  send(content: string, options?: SendOptions): Sending;
  /** Ascending. before: what precedes seq; after: what follows it; neither: the newest. limit at most 200, default 50. */
  history(options?: { before?: number; after?: number; limit?: number }): Promise<HistoryPage>;
  /** Mark as read up to seq. Lower ones than before are ignored; kept until there is a connection. */
  read(seq: number): void;
  /** Ephemeral: false when there is no connection to send it on. */
  signal(name: string, data?: Json): boolean;
  presence(): Promise<PresenceUser[]>;
  update(change: Change): Promise<{ version: number }>;
  /** End the session for everybody. */
  close(): Promise<void>;
  /** Leave; the session goes on. Its unacked sends are rejected with "detached", and so "ended" tells. */
  detach(): Promise<void>;
}

// ---------------------------------------------------------------- closing

/** What a close code asks of a client. */
export function closing(code: number): { name: string; reconnect: boolean; longer: boolean; why: string };

export const VERSION: string;
