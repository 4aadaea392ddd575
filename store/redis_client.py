"""How every store on Redis reaches it: the URL, the limits of time, the key prefix, and what its errors mean.

One place, so that live, bus and cache read one setting in one way. No command of a store's is here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisClusterException, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from store.errors import Unavailable

Client: TypeAlias = "Redis | RedisCluster"

CLUSTER_SCHEMES: Final = ("redis+cluster://", "rediss+cluster://")

# Redis answers in under a millisecond; what takes longer than this is a fault, and a caller must not stand
# behind it. A paused server is away, not slow.
TIMEOUT_S: Final = 1.0
CONNECT_S: Final = 2.0


def is_cluster(url: str) -> bool:
    """Whether the URL names a Redis Cluster."""
    return url.startswith(CLUSTER_SCHEMES)


def open_client(url: str, *, connections: int, timeout_s: float = TIMEOUT_S) -> Client:
    """Make a client with at most `connections` sockets (to each node of a cluster); nothing is touched yet.

    No command is tried twice by the client: whoever calls knows which may be repeated. ValueError.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": CONNECT_S,
        "max_connections": connections,
        # Nothing beyond what docs/redis.md allows this user; and while the client listens for notices of
        # maintenance, its pool hands out connections on which something unread is waiting.
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if is_cluster(url):
        return RedisCluster.from_url(url.replace("+cluster", "", 1), **options)
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the client raises into what a store may raise."""
    try:
        yield
    except NoPermissionError as error:
        raise Unavailable(f"Redis refuses a command: {error}. docs/redis.md says what to allow") from error
    except ResponseError as error:
        raise Unavailable(f"Redis refuses a command: {error}") from error
    except (TimeoutError, RedisError, RedisClusterException, OSError) as error:
        raise Unavailable(f"Redis does not answer: {str(error) or type(error).__name__}") from error
