"""Who is calling: the identity behind a request, and whether a page of ours on this machine sent it."""

import ipaddress
import re
from typing import Final

from starlette.requests import Request

from gateway.api.bodies import bearer
from gateway.api.services import Services
from gateway.auth.identity import Identity
from gateway.errors import Unauthenticated

# RFC 9110 7.2: host and, after a colon, port. Nothing more is let through.
_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9.-]+))(?::\d{1,5})?")
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


async def identify(request: Request, services: Services) -> Identity:
    """The identity of the bearer token. Unauthenticated when there is none, or it is not good."""
    identity = await services.tokens.verify(bearer(request))
    if not services.holds(identity):
        raise Unauthenticated("The token has been revoked: get a new one.")
    return identity


def is_local(request: Request) -> bool:
    """Whether the request was made on this machine, to this machine, without anything in between.

    The peer's address alone does not say so: a page of another site, its name re-bound to 127.0.0.1, comes
    from here too, but has that name in Host. A proxy on this machine says that it is one.
    """
    if request.client is None or not _is_loopback(request.client.host):
        return False
    if any(name in request.headers for name in _FORWARDED):
        return False
    return _is_loopback(_host(request))


def is_same_origin(request: Request) -> bool:
    """Whether a browser vouches that a page of this very origin made the request."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if origin is None and site is None:
        return False
    ours = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if origin is not None and origin.lower() != ours.lower():
        return False
    return site is None or site == "same-origin"


def _host(request: Request) -> str:
    hosts = request.headers.getlist("host")
    if len(hosts) != 1:
        return ""
    found = _HOST.fullmatch(hosts[0])
    return (found["v6"] or found["name"]).lower() if found else ""


def _is_loopback(host: str) -> bool:
    # RFC 6761 6.3: localhost is loopback, whatever DNS says. Not every browser holds that for names below it.
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
