"""The stores: log, live, bus and cache, each an interface beside its backends. Knows nothing of gateway."""
