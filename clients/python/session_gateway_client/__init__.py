"""Client of the session gateway: reconnects, resumes, delivers every message once and in order."""

from session_gateway_client.client import Client, connect
from session_gateway_client.clock import Clock, SystemClock
from session_gateway_client.errors import (
    ClientClosed,
    ClientError,
    ConnectionLost,
    Disconnected,
    OutboxFull,
    Refused,
    RequestTimeout,
    SessionEnded,
)
from session_gateway_client.feed import EventStream
from session_gateway_client.options import Options
from session_gateway_client.session import Session
from session_gateway_client.values import (
    Ack,
    Connected,
    CredentialExpiring,
    Event,
    History,
    Message,
    PresenceChanged,
    PresentUser,
    ReadMarked,
    RequestRefused,
    SessionChanged,
    Signal,
    StateChanged,
    Unacked,
)
from session_gateway_client.version import VERSION as __version__

__all__ = [
    "Ack",
    "Client",
    "ClientClosed",
    "ClientError",
    "Clock",
    "Connected",
    "ConnectionLost",
    "CredentialExpiring",
    "Disconnected",
    "Event",
    "EventStream",
    "History",
    "Message",
    "Options",
    "OutboxFull",
    "PresenceChanged",
    "PresentUser",
    "ReadMarked",
    "Refused",
    "RequestRefused",
    "RequestTimeout",
    "Session",
    "SessionChanged",
    "SessionEnded",
    "Signal",
    "StateChanged",
    "SystemClock",
    "Unacked",
    "__version__",
    "connect",
]
