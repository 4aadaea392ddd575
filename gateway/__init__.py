"""A WebSocket session gateway: sessions that outlast sockets, processes and machines."""

__version__ = "0.1.0"
