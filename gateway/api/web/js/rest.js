// The HTTP side of the gateway. Errors come out as ApiError with the problem document's code.

const BASE = "/api/v1";
const TIMEOUT_MS = 10_000;

export class ApiError extends Error {
  constructor(code, message, status = 0) {
    super(message);
    this.name = "ApiError";
    this.code = code;
    this.status = status;
  }
}

async function call(method, path, { token = null, body = undefined } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  let document;
  try {
    response = await fetch(BASE + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    document = await response.json().catch(() => ({}));
  } catch (cause) {
    throw new ApiError("network", `${method} ${path}: ${cause}`);
  }
  if (response.ok) return document.data;
  throw new ApiError(document.code ?? "internal", document.message ?? "", response.status);
}

/** What can be asked without being anybody. */
export const open = {
  config: () => call("GET", "/config"),
  demoToken: (user) => call("POST", "/demo/token", { body: { user } }),
};

/** What can be asked as the bearer of a token; `getToken` gives the present one. */
export class Rest {
  #getToken;

  constructor(getToken) {
    this.#getToken = getToken;
  }

  /** {sessions, next}: latest first; `before` is the `next` of the page before. */
  async sessions(before = null, limit = 50) {
    const query = new URLSearchParams({ limit: String(limit) });
    if (before) query.set("before", before);
    return this.#call("GET", `/sessions?${query}`);
  }

  /** [{user, role, since, read}] */
  async members(session) {
    return (await this.#call("GET", `/sessions/${session}/members`)).members;
  }

  async putMember(session, user, role) {
    return this.#call("PUT", `/sessions/${session}/members/${encodeURIComponent(user)}`, { role });
  }

  async removeMember(session, user) {
    return this.#call("DELETE", `/sessions/${session}/members/${encodeURIComponent(user)}`);
  }

  async #call(method, path, body) {
    return call(method, path, { token: await this.#getToken(), body });
  }
}
