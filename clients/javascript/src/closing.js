// What a close code asks of a client, as the protocol's table says.

const AGAIN = { reconnect: true, longer: false };
const LONGER = { reconnect: true, longer: true };
const NEVER = { reconnect: false, longer: false };

const CODES = new Map([
  [1000, { name: "normal", ...NEVER, why: "The conversation was ended." }],
  [1001, { name: "going_away", ...NEVER, why: "The gateway has ended the conversation." }],
  [1002, { name: "protocol_error", ...NEVER, why: "The gateway and this client do not understand each other." }],
  [1003, { name: "unsupported_data", ...NEVER, why: "The gateway does not take this kind of data." }],
  [1007, { name: "invalid_payload", ...NEVER, why: "The gateway received text that it cannot read." }],
  [1008, { name: "policy_violation", ...NEVER, why: "The gateway does not allow this connection." }],
  [1009, { name: "message_too_big", ...NEVER, why: "Something sent was too large for the gateway." }],
  [1010, { name: "extension_missing", ...NEVER, why: "The gateway lacks an extension." }],
  [1011, { name: "internal_error", ...AGAIN, why: "The gateway had an internal error." }],
  [4000, { name: "node_leaving", ...AGAIN, why: "This gateway node is being restarted." }],
  [4001, { name: "slow_reader", ...AGAIN, why: "The network is too slow for what is arriving." }],
  [4002, { name: "silent", ...AGAIN, why: "Nothing was heard for too long." }],
  [4003, { name: "resync", ...AGAIN, why: "The gateway asked for a fresh start." }],
  [4004, { name: "token_expired", ...AGAIN, why: "The sign-in has expired." }],
  [4005, { name: "overloaded", ...LONGER, why: "The gateway is overloaded." }],
  [4029, { name: "flooding", ...AGAIN, why: "Too much was sent at once." }],
  [4500, { name: "unauthenticated", ...NEVER, why: "The gateway did not accept the sign-in." }],
  [4501, { name: "protocol_violation", ...NEVER, why: "The gateway and this client do not understand each other." }],
  [4502, { name: "superseded", ...NEVER, why: "Another window or device has taken over." }],
  [4503, { name: "forbidden", ...NEVER, why: "This is not allowed." }],
  [4504, { name: "disconnected_by_operator", ...NEVER, why: "An operator has ended the connection." }],
]);

const LOST = { name: "lost", ...AGAIN, why: "The connection was lost." };

export function closing(code) {
  const known = CODES.get(code);
  if (known) {
    return { ...known };
  }
  if (code >= 4500 && code <= 4999) {
    return { name: "unknown", ...NEVER, why: "The gateway has closed the connection for good." };
  }
  // 1005, 1006, 1012 and the rest of the unassigned say nothing against trying again; 4000-4499 asks for it.
  return { ...LOST };
}
