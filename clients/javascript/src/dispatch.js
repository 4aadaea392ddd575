// What each frame of the gateway means, and whom it concerns.

import { GatewayError, errorFromFrame } from "./errors.js";
import { REQUEST_PREFIX } from "./requests.js";
import { changeFrom, messageFrom, signalFrom } from "./shapes.js";

/** Session events after which nothing more comes, and the code they are told with. */
const ENDS = new Map([
  ["closed", "closed"],
  ["expired", "expired"],
  ["deleted", "not_found"],
  ["superseded", "superseded"],
]);

/** parts: {link, attachments, outbox, requests, credentials, echoes, tell(event, attachment, detail), report(error)}. */
export function dispatch(parts, connection, frame) {
  const handle = Object.hasOwn(HANDLERS, frame.type) ? HANDLERS[frame.type] : null;
  // Unknown types are for clients newer than this one.
  handle?.(parts, connection, frame, parts.attachments.get(frame.session));
}

/** During a move both sockets tell of the same things. Messages are told apart by their seq; all else is taken from one. */
function isEcho({ link }, connection, attachment) {
  return connection !== link.current && (link.current?.attached.has(attachment.id) ?? false);
}

/** Whether something ephemeral is to be told: at the moment a move is over, the second socket may be a little behind. */
function isNews(parts, connection, frame, attachment) {
  if (attachment === undefined) {
    return false;
  }
  if (isEcho(parts, connection, attachment)) {
    parts.echoes.passes(connection, frame);
    return false;
  }
  return parts.echoes.takes(connection, frame);
}

const HANDLERS = {
  ack({ outbox }, _connection, frame) {
    outbox.acked(frame);
  },

  message(_parts, _connection, frame, attachment) {
    attachment?.message(messageFrom(frame));
  },

  attached({ attachments, requests }, connection, frame, attachment) {
    if (attachment === undefined) {
      // Left while it was being attached, or while there was no connection: the gateway cannot know.
      connection.send({ type: "detach", id: requests.nextId(), session: frame.session });
      return;
    }
    attachments.confirmed(connection, attachment, frame);
  },

  live({ attachments }, connection, frame, attachment) {
    if (attachment) {
      attachments.caughtUp(connection, attachment, frame.seq);
    }
  },

  session(parts, connection, frame, attachment) {
    if (!attachment || isEcho(parts, connection, attachment)) {
      return;
    }
    if (frame.event === "superseded" && parts.link.leaves(connection)) {
      return; // by our own second connection
    }
    const change = changeFrom(frame);
    const end = ENDS.get(change.event);
    attachment.changed(end && end !== "superseded" ? { state: "closed" } : change.changes, change.version);
    parts.tell("session", attachment, change);
    if (end !== undefined) {
      parts.attachments.end(attachment, new GatewayError(end, `the session was ${change.event}`));
    }
  },

  signal(parts, connection, frame, attachment) {
    if (frame.id != null) {
      return; // the answer to a signal of our own
    }
    if (frame.session === undefined) {
      if (connection === parts.link.current) {
        parts.tell("signal", null, signalFrom(frame));
      }
    } else if (isNews(parts, connection, frame, attachment)) {
      parts.tell("signal", attachment, signalFrom(frame));
    }
  },

  presence(parts, connection, frame, attachment) {
    if (frame.event !== undefined && isNews(parts, connection, frame, attachment)) {
      const { event, user, connections } = frame;
      parts.tell("presence", attachment, { event, user, connections });
    }
  },

  read(parts, connection, frame, attachment) {
    // Without a user it is the answer to our own marker.
    if (frame.user !== undefined && isNews(parts, connection, frame, attachment)) {
      parts.tell("read", attachment, { user: frame.user, seq: frame.seq });
    }
  },

  heartbeat({ attachments }, _connection, frame) {
    for (const [session, { head }] of Object.entries(frame.sessions ?? {})) {
      attachments.get(session)?.heard(head);
    }
  },

  migrate({ link }, connection, frame) {
    link.migrate(connection, frame);
  },

  expiring({ credentials, requests, report }, _connection, frame) {
    credentials.refresh(frame.in_ms, (refresh) => requests.run(refresh)).catch(report);
  },

  error({ outbox, attachments, report }, connection, frame, attachment) {
    const error = errorFromFrame(frame);
    if (frame.id != null) {
      if (!outbox.refused(connection, frame.id, error) && !String(frame.id).startsWith(REQUEST_PREFIX)) {
        report(error);
      }
    } else if (attachment && connection.listed.has(attachment.id) && !connection.attached.has(attachment.id)) {
      attachments.refused(connection, attachment, error); // a session listed in the hello
    } else {
      report(error);
    }
  },
};
