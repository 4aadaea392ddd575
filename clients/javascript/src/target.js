// Where a client moves to: what the gateway names, where the credential may be sent to.

const ENCRYPTED = new Set(["wss:", "https:"]);

/** The address named in a `migrate`, or the known one: where none is named, or one that is no socket or not encrypted. */
export function target(known, named) {
  if (typeof named !== "string") {
    return known;
  }
  let url;
  try {
    url = new URL(named);
  } catch {
    return known;
  }
  const mayBePlain = !ENCRYPTED.has(new URL(known).protocol);
  const isSocket = url.protocol === "wss:" || (url.protocol === "ws:" && mayBePlain);
  return isSocket && url.username === "" && url.password === "" ? url.href : known;
}
