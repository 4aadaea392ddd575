"""Start one server of each kind and wait to be killed: a test run that does not come to its end."""

import signal
import sys
from pathlib import Path

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisServer

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    postgres = PostgresServer.start(folder / "postgres")
    redis = RedisServer.start(folder / "redis")
    print(postgres.pid, redis.pid, (folder / "postgres" / "postgres").resolve(), flush=True)
    signal.pause()
