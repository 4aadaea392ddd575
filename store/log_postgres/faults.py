"""What Postgres and its driver raise, and what each means: beyond here there is only store.errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from store.errors import Invalid, Unavailable

# A statement that failed like this had no effect, and may succeed when it is made again: somebody else was
# faster with the same ids, or two waited for each other.
REPEATABLE: Final = (
    asyncpg.UniqueViolationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)

# SQLSTATE: what a value is to blame for. 22: it cannot be read or stored; 54: too long or too deep.
_OF_VALUES: Final = ("22", "54")
_CHECK_VIOLATION: Final = "23514"
# 08: the connection; 57P0x: the server shuts down, crashed, or starts; 25006: it has become a standby.
_OF_CONNECTIONS: Final = ("08", "57P", "25006")

_ADVICE: Final = {
    "28P01": "check user and password",
    "28000": "check user, password and pg_hba.conf",
    "3D000": "create the database, or correct its name",
    "42501": "grant the user what docs/postgres.md lists",
    "42P01": "run `gateway migrate`",
    "42703": "run `gateway migrate`",
    "53300": "raise max_connections, or make the pools smaller",
    "57014": "it took too long: look for locks and slow disks",
}


def is_of_values(error: asyncpg.PostgresError) -> bool:
    """Whether it is the fault of a value, which no repetition will cure."""
    state = error.sqlstate or ""
    return state.startswith(_OF_VALUES) or state == _CHECK_VIOLATION


def is_of_connection(error: BaseException) -> bool:
    """Whether the connection is gone or of no use: others of the same age probably are too."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_OF_CONNECTIONS)
    # The driver's own confusion too: it has read a farewell where no word was expected.
    return isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what asyncpg raises into what a store may raise, the cause kept.

    Nothing of a detail is repeated: it may quote a message.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        if is_of_values(error):
            raise Invalid(f"Postgres cannot store a value (SQLSTATE {error.sqlstate})") from error
        raise Unavailable(f"Postgres: {_told(error)}") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise Unavailable(f"Postgres: {error.args[0]}") from error
    except TimeoutError as error:
        raise Unavailable("Postgres did not answer in time") from error
    except OSError as error:
        raise Unavailable(f"Postgres: {error}") from error


def _told(error: asyncpg.PostgresError) -> str:
    state = error.sqlstate or ""
    advice = f": {_ADVICE[state]}" if state in _ADVICE else ""
    return f"{error.args[0]} (SQLSTATE {state}){advice}"
