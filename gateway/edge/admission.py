"""Who may open a WebSocket, and when: everything that is checked before the 101. No socket, no framework."""

import base64
import binascii
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import msgspec

from gateway.edge.handler import EdgeLimits, Rejection, UpgradeRequest
from gateway.runtime.line import Line

_BEARER: Final = "bearer."

# 1 to 5: an address has room again when one of its connections ends, and nobody knows when that is.
_CROWDED_S: Final = 5
# A load balancer sends them elsewhere within two seconds, and the other nodes are waiting for them.
_LEAVING_S: Final = 3


class Asked(msgspec.Struct, frozen=True):
    """A request with `Upgrade: websocket`, as it came."""

    method: str
    path: str
    query: str
    http_version: str
    headers: Mapping[str, str]  # lower-case names; repeated ones joined by ", "
    peer: tuple[str, int]


class Admission:
    """Answers requests for a WebSocket, and knows how many each address has."""

    def __init__(self, limits: EdgeLimits, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.draining = False
        self.line = Line(limits.accepts_per_s, limits.horizon_s, monotonic)
        self.refused: Counter[str] = Counter()  # for the present load, by its kind
        self._limits = limits
        self._origins = frozenset(limits.origins)
        self._proxies = tuple(ip_network(network, strict=False) for network in limits.trusted_proxies)
        self._open: dict[str, int] = {}

    def judge(self, asked: Asked) -> UpgradeRequest | Rejection:
        """Check everything that needs no credential. Whoever passes has yet to wait for a turn: `line`."""
        ip, port = self._client(asked)
        refusal = self._check_request(asked) or self._check_origin(asked.headers) or self.crowded(ip)
        if refusal is not None:
            return refusal
        offered = [item.strip() for item in asked.headers.get("sec-websocket-protocol", "").split(",")]
        return UpgradeRequest(
            path=asked.path,
            query=asked.query,
            headers=asked.headers,
            origin=asked.headers.get("origin"),
            ip=ip,
            port=port,
            subprotocols=tuple(item for item in offered if item and not item.startswith(_BEARER)),
            bearer=_bearer(asked.headers.get("authorization", ""), offered),
        )

    def crowded(self, ip: str) -> Rejection | None:
        """What keeps anybody out, or one more of this address. Asked again when a turn has come."""
        if self.draining:
            self.refused["leaving"] += 1
            return Rejection(503, "This node is leaving.", retry_after_s=_jittered(_LEAVING_S))
        if self._open.get(address_of(ip), 0) >= self._limits.connections_per_address:
            self.refused["address"] += 1
            return Rejection(
                429, "Too many connections from this address.", retry_after_s=_jittered(_CROWDED_S)
            )
        return None

    def enter(self, address: str) -> None:
        """An address has one connection more."""
        self._open[address] = self._open.get(address, 0) + 1

    def leave(self, address: str) -> None:
        """An address has one connection less."""
        left = self._open.get(address, 0) - 1
        if left > 0:
            self._open[address] = left
        else:
            self._open.pop(address, None)

    def _check_request(self, asked: Asked) -> Rejection | None:
        headers = asked.headers
        if asked.path != self._limits.path:
            return Rejection(404, "There is no WebSocket here.")
        if asked.method != "GET" or asked.http_version != "1.1":
            return Rejection(400, "A WebSocket opens with GET and HTTP/1.1.")
        if headers.get("sec-websocket-version") != "13":
            # RFC 6455 4.4: say which version would do.
            return Rejection(426, "Version 13 is spoken here.", (("sec-websocket-version", "13"),))
        if not _is_key(headers.get("sec-websocket-key", "")):
            return Rejection(400, "Sec-WebSocket-Key is 16 bytes in base64.")
        if headers.get("transfer-encoding") or headers.get("content-length", "0") != "0":
            return Rejection(400, "A WebSocket request has no body.")
        return None

    def _check_origin(self, headers: Mapping[str, str]) -> Rejection | None:
        origin = headers.get("origin")
        if origin is None:
            # Browsers always send Origin. Who sends cookies without one is a browser in disguise or a
            # confused deputy.
            return Rejection(403, "Cookies without an Origin.") if "cookie" in headers else None
        if self._origins:
            is_known = origin in self._origins
        else:
            scheme, _, host = origin.partition("://")
            is_known = scheme in ("http", "https") and host != "" and host == headers.get("host")
        return None if is_known else Rejection(403, "Pages of this origin may not connect.")

    def _client(self, asked: Asked) -> tuple[str, int]:
        """Who is really asking. Behind trusted proxies: the rightmost address that is not one of them."""
        ip, port = asked.peer
        if not self._proxies:
            return ip, port
        named = [item.strip() for item in asked.headers.get("x-forwarded-for", "").split(",")]
        while named and self._is_proxy(ip):
            # What stands left of an address that is none was written by somebody we do not know.
            candidate = named.pop()
            if not _is_address(candidate):
                break
            ip, port = candidate, 0
        return ip, port

    def _is_proxy(self, ip: str) -> bool:
        return ip != "" and any(_contains(network, ip) for network in self._proxies)


def address_of(ip: str) -> str:
    """What is counted as one address: an IPv4 one, or the /64 of an IPv6 one: a household has a whole /64."""
    if ":" not in ip:
        return ip
    address = IPv6Address(ip.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _contains(network: IPv4Network | IPv6Network, ip: str) -> bool:
    address = ip_address(ip)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address in network


def _bearer(authorization: str, offered: list[str]) -> str | None:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return next((item[len(_BEARER) :] for item in offered if item.startswith(_BEARER)), None)


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _jittered(most_s: int) -> int:
    # Whole seconds are all that the header can say.
    return random.randint(1, most_s)  # noqa: S311 - spread, not a secret
