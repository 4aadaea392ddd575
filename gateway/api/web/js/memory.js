// What this window remembers over a reload. sessionStorage, so that two windows can be two people.

const NAME = "sessions.name";
const TOKEN = "sessions.token";
const DRAFT = "sessions.draft";

// Storage may be switched off or full; then the page works and forgets.
function read(key) {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

function write(key, value) {
  try {
    if (value === null || value === "") sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, value);
  } catch { /* see above */ }
}

export const memory = {
  get name() { return read(NAME); },
  set name(value) { write(NAME, value); },

  get token() { return read(TOKEN); },
  set token(value) { write(TOKEN, value); },

  draft(user, session) { return read(`${DRAFT}.${user}.${session}`) ?? ""; },
  keepDraft(user, session, text) { write(`${DRAFT}.${user}.${session}`, text); },

  /** What the client keeps its unacked sends in; null where there is no storage. */
  get storage() {
    try {
      return window.sessionStorage;
    } catch {
      return null;
    }
  },

  /** The next one at this window is somebody else, or begins anew. */
  forget() {
    write(NAME, null);
    write(TOKEN, null);
  },
};
