/** What every failed request, send and session is told with: whose fault it is, and whether trying again may help. */
export class GatewayError extends Error {
  constructor(code, message, retryable = false, retryAfterMs = null) {
    super(message);
    this.name = "GatewayError";
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
  }
}

export function errorFromFrame(frame) {
  return new GatewayError(
    String(frame.code ?? "internal"),
    String(frame.message ?? ""),
    frame.retryable === true,
    typeof frame.retry_after_ms === "number" ? frame.retry_after_ms : null,
  );
}

export function connectionLost() {
  return new GatewayError("connection_lost", "the connection was lost before the answer came", true);
}
