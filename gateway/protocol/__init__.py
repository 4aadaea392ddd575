"""The wire protocol, pure: bytes, frames, the state of a connection. No I/O, no clock, no store handles."""
