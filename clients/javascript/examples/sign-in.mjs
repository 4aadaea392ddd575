// A token for the examples: CHAT_TOKEN, or one by name from a gateway on this machine.

export const GATEWAY = process.env.CHAT_GATEWAY ?? "http://127.0.0.1:8000";

export async function getToken(user) {
  if (process.env.CHAT_TOKEN) {
    return process.env.CHAT_TOKEN;
  }
  const response = await fetch(`${GATEWAY}/api/v1/demo/token`, {
    method: "POST",
    // Tokens by name are for pages of the gateway itself; a program may say that it is one, a page elsewhere may not.
    headers: { "Content-Type": "application/json", Origin: GATEWAY },
    body: JSON.stringify({ user }),
  });
  if (!response.ok) {
    throw new Error(`no token from ${GATEWAY}: HTTP ${response.status}`);
  }
  const { data } = await response.json();
  return data.token;
}

/** Node 22 has a WebSocket of its own; before it, `npm install ws`. */
export const WebSocket = globalThis.WebSocket ?? (await import("ws")).WebSocket;
