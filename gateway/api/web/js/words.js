// What went wrong, as a sentence that says what to do. Whoever reads it does not know what a frame is.

const SENTENCES = {
  unauthenticated: "You are no longer signed in here. Sign in again to go on.",
  forbidden: "You may not do that in this session. Its owner can.",
  not_found: "This session does not exist, or you are not in it. Its owner can invite you.",
  closed: "This session has ended. Start a new one to go on.",
  expired: "This session has expired. Start a new one to go on.",
  superseded: "This session is open in another place now. Reload to bring it here.",
  rate_limited: "That was a lot at once. Wait a moment, then try again.",
  unavailable: "The gateway is busy with itself. Try again in a moment.",
  internal: "The gateway failed at this. Try again; if it stays, tell whoever runs it.",
  timeout: "The gateway took too long to answer. Try again.",
  connection_lost: "The connection went away meanwhile. Try again when it is back.",
  network: "The gateway cannot be reached. Try again when the connection is back.",
  queue_full: "Too many messages are waiting to be sent. Wait until some are through.",
  too_large: "This is longer than one message may be. Send it in parts.",
  storage: "This window has no room left to keep unsent messages. Wait until some are through.",
  id_conflict: "Somebody changed this at the same time. Look again, then repeat what you did.",
};

/** A sentence for a person about an error of the client or of the API. */
export function sentence(error) {
  return SENTENCES[error?.code] ?? capitalised(error?.message) ?? "Something went wrong. Try again.";
}

function capitalised(message) {
  if (!message) return null;
  const text = message[0].toUpperCase() + message.slice(1);
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

/** Anna; Anna and Bob; Anna, Bob and 3 others */
export function enumerated(names, most = 3) {
  if (names.length <= 1) return names[0] ?? "";
  if (names.length > most) {
    const rest = names.length - (most - 1);
    return `${names.slice(0, most - 1).join(", ")} and ${rest} others`;
  }
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** 1 person, 2 people */
export function counted(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}

// The gateway's own rule for names (gateway/ids.py).
const NAME = /^[A-Za-z0-9_.:-]{1,64}$/;

export function isName(text) {
  return NAME.test(text);
}

/** The nearest name that is allowed: "Anna Müller" is known as Anna-Muller. */
export function nearestName(text) {
  return text
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .replace(/ß/g, "ss")
    .trim()
    .replace(/\s+/gu, "-")
    .replace(/[^A-Za-z0-9_.:-]+/g, "")
    .slice(0, 64);
}
