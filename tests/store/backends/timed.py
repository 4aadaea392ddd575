"""What the tests of a store whose entries expire are given."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")

Elapse = Callable[[int], Awaitable[None]]


@dataclass
class Timed(Generic[S]):
    """A store whose entries expire, and the way to let time pass for it."""

    store: S
    elapse: Elapse
