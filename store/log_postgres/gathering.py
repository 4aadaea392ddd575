"""Questions of one kind that are asked at the same time go to the database together.

While one statement is under way the next questions gather; no timer: a question that is alone goes at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from store.errors import StoreError, Unavailable

K = TypeVar("K")
V = TypeVar("V")

# What may gather while a statement is under way; above it callers are told to come back.
WAITING: Final = 10_000
# One statement answers this many at most, and fetches this many rows: what comes back has to fit into memory,
# and whoever asks for little must not stand behind those who ask for much.
AT_ONCE: Final = 256
ROWS: Final = 2_000


class Gathering(Generic[K, V]):
    """Answers questions; `fetch` answers many of them in one statement, `rows` says how many one may bring.

    A caller that is cancelled disturbs nobody. One that has waited for `limit_s` is told Unavailable.
    """

    def __init__(
        self,
        fetch: Callable[[Sequence[K]], Awaitable[Sequence[V]]],
        *,
        limit_s: float,
        rows: Callable[[K], int] = lambda _: 1,
    ) -> None:
        self._fetch = fetch
        self._limit_s = limit_s
        self._rows = rows
        self._waiting: deque[tuple[K, asyncio.Future[V]]] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def ask(self, question: K) -> V:
        """Answer one question."""
        if len(self._waiting) >= WAITING:
            raise Unavailable(f"{len(self._waiting)} questions of one kind wait for Postgres already")
        answer: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="log-gathering")
        try:
            async with asyncio.timeout(self._limit_s):
                return await answer
        except TimeoutError as error:
            raise Unavailable(f"Postgres did not answer within {self._limit_s:g} s") from error

    async def close(self) -> None:
        """Wait until everybody has an answer. Idempotent."""
        while self._runner is not None:
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        try:
            while group := self._take():
                await self._answer(group)
        finally:
            # In the turn in which nothing was left: whoever asks from now on starts the next runner.
            self._runner = None

    def _take(self) -> list[tuple[K, "asyncio.Future[V]"]]:
        group: list[tuple[K, asyncio.Future[V]]] = []
        rows = 0
        while self._waiting and len(group) < AT_ONCE:
            question, answer = self._waiting[0]
            if not answer.done():
                rows += self._rows(question)
                if group and rows > ROWS:
                    break
                group.append((question, answer))
            self._waiting.popleft()
        return group

    async def _answer(self, group: list[tuple[K, "asyncio.Future[V]"]]) -> None:
        try:
            values = await self._fetch([question for question, _ in group])
        except Exception as error:
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(_copy(error))
            return
        for (_, answer), value in zip(group, values, strict=True):
            if not answer.done():
                answer.set_result(value)


def _copy(error: Exception) -> Exception:
    """Raise no exception in two tasks: each would add its traceback to the other's."""
    if isinstance(error, StoreError):
        copy = type(error)(*error.args)
        copy.__cause__ = error.__cause__
        return copy
    return error
