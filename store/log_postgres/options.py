"""What may be set of the log in Postgres."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PostgresOptions:
    """`statement_timeout_s` is what the server gives one statement; a whole call has a second more."""

    pool_size: int = 8
    statement_timeout_s: float = 5.0
    connect_timeout_s: float = 5.0
    # Read again for each new connection, so that a password can be changed while the gateway runs.
    password_file: Path | None = None
