"""The wire protocol, pure: bytes, frames and the state of one connection. No I/O, no clock, no store handles."""
