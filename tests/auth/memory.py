"""The least that tickets and revocations need of a store; the real ones are examined by their own suites."""

from collections.abc import Sequence
from typing import cast

from store.errors import Unavailable
from store.live import Live, OnceKind
from store.log import Log
from store.types import Revocation
from tests.waiting import turns


class OnceOnly:
    """Keeps values to be taken once, and shows them. Gives way before it takes, as a network would."""

    def __init__(self) -> None:
        self.kept: dict[tuple[OnceKind, str], bytes] = {}
        self.ttls_ms: list[int] = []

    async def put_once(
        self, kind: OnceKind, entries: Sequence[tuple[str, bytes]], *, ttl_ms: int
    ) -> set[str]:
        await turns(1)
        for digest, value in entries:
            self.kept[kind, digest] = value
            self.ttls_ms.append(ttl_ms)
        return set()

    async def take_once(self, kind: OnceKind, digest: str) -> bytes | None:
        await turns(1)
        return self.kept.pop((kind, digest), None)


class RevocationLog:
    """Keeps revocations in order; several nodes may share it. Away when told so."""

    def __init__(self) -> None:
        self.rows: list[Revocation] = []
        self.pages = 0
        self.is_away = False

    async def revoke(self, tenant: str, user: str, *, before: int) -> Revocation:
        await self._answer()
        row = Revocation(id=len(self.rows) + 1, tenant=tenant, user=user, before=before)
        self.rows.append(row)
        return row

    async def revocations(self, *, after: int, limit: int) -> Sequence[Revocation]:
        await self._answer()
        self.pages += 1
        return [row for row in self.rows if row.id > after][:limit]

    async def _answer(self) -> None:
        await turns(1)
        if self.is_away:
            raise Unavailable("the log is away")


def live(store: OnceOnly) -> Live:
    return cast(Live, store)


def log(store: RevocationLog) -> Log:
    return cast(Log, store)
