"""Where Redis is and how one is let in: the URL's address, user, password and TLS. Makes links.

The client library reads the URL, so that the bus understands what the other stores understand.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis.asyncio.connection import ConnectionPool

from store.bus_redis.link import Link, Take
from store.errors import Unavailable
from store.redis_client import CONNECT_S, TIMEOUT_S, is_cluster


class Address(NamedTuple):
    """A place to connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Server:
    """What all connections of a bus have in common. ValueError for a URL that is none."""

    def __init__(self, url: str, name: str) -> None:
        self.is_cluster = is_cluster(url)
        self._name = name
        # A connection that is never connected: it holds what the library has understood.
        pool: Any = ConnectionPool.from_url(url.replace("+cluster", "", 1))
        told = pool.make_connection()
        self.address = Address(told.host, told.port)
        self._login = [part for part in (told.username, told.password) if part]
        self._context: Callable[[], ssl.SSLContext] | None = (
            told.ssl_context.get if hasattr(told, "ssl_context") else None
        )

    async def connect(self, address: Address, take: Take) -> Link:
        """Connect and log in; from then on `take` gets the replies. Unavailable says why not."""
        try:
            async with asyncio.timeout(CONNECT_S):
                link = await self._open(address)
                try:
                    await self._enter(link)
                except BaseException:
                    link.abort("not let in")
                    raise
        except Unavailable as error:
            raise Unavailable(f"Redis at {address}: {error}") from error
        except OSError as error:
            raise Unavailable(f"Redis at {address}: {str(error) or 'no answer'}") from error
        link.take = take
        return link

    async def _open(self, address: Address) -> Link:
        loop = asyncio.get_running_loop()
        context = self._context() if self._context else None
        _, link = await loop.create_connection(lambda: Link(_early), *address, ssl=context)
        return link

    async def _enter(self, link: Link) -> None:
        """Log in, and hear an answer: a server that is stopped accepts connections all the same."""
        commands = [("CLIENT", "SETNAME", self._name)]
        if self._login:
            commands.insert(0, ("AUTH", *self._login))
        replies = await ask(link, *commands)
        if self._login and isinstance(replies[0], Exception):
            raise Unavailable(f"Redis does not let us in: {replies[0]}") from replies[0]
        # A name that is refused is no harm: it is for those who look at CLIENT LIST. Not so where a password
        # is asked for.
        if isinstance(replies[-1], Exception) and str(replies[-1]).startswith("NOAUTH"):
            raise Unavailable(f"Redis asks for a password, and the URL has none: {replies[-1]}")


async def ask(link: Link, *commands: Sequence[str]) -> list[Any]:
    """Send commands on a link that nobody else uses, and wait for their replies. Unavailable without them."""
    done = asyncio.get_running_loop().create_future()
    replies: list[Any] = []

    def take(reply: Any) -> None:
        replies.append(reply)
        if len(replies) == len(commands) and not done.done():
            done.set_result(None)

    link.take = take
    link.send(*(_packed(command) for command in commands))
    await asyncio.wait([done, link.lost], timeout=TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    if done.done():
        return replies
    raise Unavailable(f"Redis is gone: {link.lost.result()}" if link.lost.done() else "Redis does not answer")


def _packed(command: Sequence[str]) -> bytes:
    parts = [part.encode() for part in command]
    return b"*%d\r\n%b" % (len(parts), b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))


def _early(reply: Any) -> None:
    """Who takes replies before any was asked for: nobody."""
