"""Published signing keys (RFC 7517): fetched when needed, cached, good for a while without their source."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog

from gateway.auth.fetch import FetchFailed, fetch
from gateway.auth.keys import Key, from_jwk
from gateway.clock import Clock
from gateway.errors import Unavailable

# Tokens name keys by chance or by malice: however many unknown names arrive, the source is asked this often
# at most.
RETRY_S: Final = 10.0

# A key withdrawn by its issuer is trusted this much longer. Usual Cache-Control of large issuers: 5 minutes
# to a day.
FRESH_S: Final = 300.0

# An issuer's outage of a day must not end everybody's work; a key set nobody could confirm for longer is not
# trusted.
STALE_S: Final = 86_400.0

# The client's hello has waited up to this long for us; it is within our own deadline for a hello.
TIMEOUT_S: Final = 4.0

# Large issuers publish 2 to 10 keys of 0.5 to 3 KiB, some with certificate chains.
_MOST_BYTES: Final = 262_144
_MOST_KEYS: Final = 100

_log = structlog.stdlib.get_logger(__name__)


class _KeySet(msgspec.Struct):
    keys: list[dict[str, object]]


_KEY_SET: Final = msgspec.json.Decoder(_KeySet)


class PublishedKeys:
    """The KeySource of a JWKS URL. Made without any I/O; the first token makes it fetch."""

    def __init__(
        self, url: str, clock: Clock, *, get: Callable[[str], Awaitable[bytes]] | None = None
    ) -> None:
        self._url = url
        self._clock = clock
        self._get = get or _get
        self._keys: dict[str | None, Key] = {}
        self._fetched: float | None = None
        self._tried: float | None = None
        self._fetching: asyncio.Task[bool] | None = None

    async def find(self, kid: str | None) -> Key | None:
        age = self._age()
        key = self._match(kid) if age < STALE_S else None
        if key is not None:
            if age >= FRESH_S:
                self._begin()
            return key
        fetching = self._begin()
        if fetching is None:
            # Unknown a moment ago; whether still is not known. A refusal for good would tell a client to give
            # up whose key is a second old.
            raise Unavailable(
                "the signing keys are being looked up; try again", retry_after_ms=self._next_try_ms()
            )
        # Shielded: whoever hangs up while waiting must not end the fetch the others wait for.
        if not await asyncio.shield(fetching):
            raise Unavailable(
                "the signing keys cannot be fetched; try again", retry_after_ms=self._next_try_ms()
            )
        return self._match(kid)

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
            self._fetching = None

    def _age(self) -> float:
        """Seconds since the keys were last confirmed."""
        return float("inf") if self._fetched is None else self._clock.monotonic() - self._fetched

    def _match(self, kid: str | None) -> Key | None:
        if kid is not None:
            return self._keys.get(kid)
        # RFC 7515 4.1.4: `kid` is only a hint and may be missing; then there must be no choice.
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def _begin(self) -> asyncio.Task[bool] | None:
        """Join the fetch under way or start one; None: the last one is too short ago."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        now = self._clock.monotonic()
        if self._tried is not None and now - self._tried < RETRY_S:
            return None
        self._tried = now
        self._fetching = asyncio.create_task(self._fetch(), name="fetch signing keys")
        return self._fetching

    def _next_try_ms(self) -> int:
        waited = self._clock.monotonic() - (self._tried or 0.0)
        return max(1, round((RETRY_S - waited) * 1000))

    async def _fetch(self) -> bool:
        """Replace the keys by what the source says. False: nothing usable; the keys stay as they were."""
        where = urlsplit(self._url).netloc
        try:
            keys = _usable(await self._get(self._url))
        except FetchFailed as error:
            _log.warning("signing_keys_unavailable", source=where, reason=str(error))
            return False
        if set(keys) != set(self._keys):
            _log.info("signing_keys_fetched", source=where, keys=len(keys))
        self._keys = keys
        self._fetched = self._clock.monotonic()
        return True


async def _get(url: str) -> bytes:
    return await fetch(url, timeout_s=TIMEOUT_S, most_bytes=_MOST_BYTES)


def _usable(body: bytes) -> dict[str | None, Key]:
    """Pick the keys for checking tokens. FetchFailed if none: a broken source must not lock everybody out."""
    try:
        entries = _KEY_SET.decode(body).keys[:_MOST_KEYS]
    except msgspec.MsgspecError as error:
        raise FetchFailed(f"the answer is not a key set: {error}") from error
    keys: dict[str | None, Key] = {}
    for entry in entries:
        kid, key = entry.get("kid"), from_jwk(entry)
        if key is not None and (kid is None or isinstance(kid, str)):
            keys.setdefault(kid, key)
    if not keys:
        raise FetchFailed("the key set holds no key for RS256, ES256 or EdDSA")
    return keys
