"""Where sockets end: RFC 6455 rules left to us, limits, deadlines, the outbox."""
