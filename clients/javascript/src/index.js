export { Client, VERSION } from "./client.js";
export { closing } from "./closing.js";
export { GatewayError } from "./errors.js";
export { Session } from "./session.js";

import { Client } from "./client.js";

export function connect(url, options) {
  return new Client(url, options);
}
