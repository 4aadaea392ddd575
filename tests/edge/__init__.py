"""The edge, byte by byte: what a WebSocket peer may and may not do to it."""
