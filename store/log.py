"""The interface of the durable log: sessions, members, messages, cursors, events, revocations.

Backends stand beside it.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from store.search import Found, Search
from store.types import (
    Access,
    Appended,
    Attendance,
    Change,
    Cursor,
    Draft,
    EndReason,
    Event,
    EventPage,
    Listing,
    Mark,
    Member,
    Message,
    NewSession,
    Purged,
    Refused,
    Revocation,
    Role,
    Session,
    Standing,
    Tally,
)

# Asks the database, each time.
Tallier = Callable[[], Awaitable[Tally]]


class Log(Protocol):
    """The truth. What it has answered survives the SIGKILL of every process.

    Order: seq is 1, 2, 3 … without a gap per session, allocated under the session's row lock in the
        transaction that inserts the message. Drafts of one `append` that go to one session are numbered in
        the order given. Event ids and revocation ids grow in commit order: a reader that has seen N never
        later meets a new one below N.
    Atomicity: every call is one transaction. `append` is one for all its drafts, but refuses row by row: a
        refused draft neither stores anything nor uses a seq, and does not disturb the others. A change of a
        session and its event commit together.
    Durability: when a call returns, its effect is on disk (SQLite `synchronous=FULL`, Postgres
        `synchronous_commit=on`).
    Cancellation: a cancelled call may or may not have taken effect, and leaves the backend whole; `append`
        may be called again with the same drafts and then tells the truth.
    Errors: `Unavailable` when the backend cannot be reached or is too slow (the outcome is then unknown;
        `append` and `create` can be repeated); `NotFound`, `Ended`, `VersionConflict`, `LimitReached` as
        each call says; `Invalid` where a value cannot be stored; `SchemaRefused` from `start`. Nothing else
        leaves a backend.
    """

    @property
    def queries(self) -> Counter[str]:
        """How often the database was asked since start, by kind; one query may answer several calls."""

    async def start(self) -> None:
        """Connect; where the log is embedded, bring its schema up to date."""

    async def close(self) -> None:
        """Finish what is under way, then let go of every thread, file and socket. Idempotent."""

    async def ping(self) -> None:
        """Make one trivial round trip, for health checks."""

    # -- messages

    async def append(self, drafts: Sequence[Draft]) -> list[Appended | Refused]:
        """Commit up to 512 drafts; the n-th outcome belongs to the n-th draft.

        Checked row by row, the first hit wins:
        what the database cannot hold, a lone surrogate or NUL for example → invalid;
        no session in this tenant, or the sender is no member → not_found;
        used (session, sender, client_id) → the first outcome with `duplicate=True` if role and content are
        equal and metadata are as JSON, else id_conflict; an `id` that another message has → id_conflict;
        ended → expired if it expired, else closed;
        the sender is a reader → forbidden;
        an epoch older than the session's → superseded.
        Two drafts of one call may carry the same ids: the second is then the duplicate of the first.
        """

    async def read(self, session: str, *, after: int, limit: int) -> list[Message]:
        """Messages with seq > `after`, ascending, at most `limit`."""

    async def read_before(self, session: str, *, before: int, limit: int) -> list[Message]:
        """The last `limit` messages with seq < `before`, ascending."""

    async def search(self, search: Search) -> Found:
        """Messages that match, newest first; in part, and `before` says where to go on.

        First it indexes what is new in the sessions that are searched, so that all is found that was
        acked before. docs/search.md says what a call does at most.
        """

    async def standings(self, sessions: Sequence[str]) -> dict[str, Standing]:
        """Where each of these sessions stands, of those that exist; ended ones too."""

    def tallier(self, sessions: Sequence[str]) -> Tallier:
        """Make a call that takes the tally of these sessions: the sums of what `standings` would say.

        Two tallies are equal exactly if each session stands where it stood, and so are a sum of standings,
        of whatever times, and a later tally: no head, version or epoch ever goes back, an end raises the
        version, and a session that is gone is missing from the count. The ids are such as `standings` has
        answered with; what it costs to name many of them is paid here, once.
        """

    # -- sessions

    async def create(self, new: NewSession, *, limit: int) -> Session:
        """Store a session, its owner and `members` as members and the event `created`.

        `expires_at` = created_at + ttl_s (None stays None); version 1, epoch 1, head 0.
        The same id from the same owner again: the session as it is by now, so that a call whose outcome is
        unknown can be repeated. VersionConflict: the id is somebody else's. LimitReached: the owner has
        `limit` live sessions already.
        """

    async def get(self, tenant: str, session: str) -> Session | None:
        """The session, ended or not; None where it is unknown or another tenant's."""

    async def access(self, tenant: str, session: str, user: str) -> Access | None:
        """The session and the user's role in it, ended or not.

        None where there is no such session, or no membership.
        """

    async def list_for(
        self, tenant: str, user: str, *, before: tuple[int, str] | None, limit: int
    ) -> list[Listing]:
        """The user's sessions that have not ended, latest `last_at` first (ties: id descending).

        They begin behind `before` = (last_at, id). `last_at` = time of the last message, or of creation.
        `preview` ≤ 120 characters.
        """

    async def update(
        self,
        tenant: str,
        session: str,
        change: Change,
        *,
        now: int,
        expected_version: int | None,
        by: str | None = None,
    ) -> Session:
        """Apply a change, version + 1, event `archived` when status becomes archived, else `updated`.

        `by`: the user who did it, as the event has it; so too below. NotFound; Ended; VersionConflict when
        `expected_version` is given and is not the present one.
        """

    async def end(
        self, tenant: str, session: str, reason: EndReason, *, now: int, by: str | None = None
    ) -> Session | None:
        """End a session, version + 1, exactly one terminal event. None: it had ended, or is unknown."""

    async def take_over(self, tenant: str, session: str, *, held: int | None = None) -> int:
        """Raise the epoch of an exclusive session by one and return it. NotFound; Ended.

        With `held` only if that is its epoch still; TakenOver.
        The version stays: a client's own attachment must not make its next `update` a conflict.
        """

    async def extend(self, expiries: Mapping[str, int]) -> None:
        """Move `expires_at` of temporary sessions that have not ended; never backwards.

        The version stays. Unknown ids are passed over.
        """

    async def expire_due(self, *, now: int, limit: int) -> list[Session]:
        """End temporary sessions with expires_at ≤ now, reason `expired`; return them as they are now.

        At most `limit`, the most overdue first.
        """

    # -- members

    async def members(self, session: str) -> list[Member]:
        """All members, by `since`, then user."""

    async def put_member(
        self, tenant: str, session: str, user: str, role: Role, *, now: int, by: str | None = None
    ) -> Session:
        """Add or change a member, version + 1, event `updated`. The owner stays owner. NotFound; Ended."""

    async def remove_member(
        self, tenant: str, session: str, user: str, *, now: int, by: str | None = None
    ) -> Session:
        """Remove a member who is not the owner, version + 1, event `updated`.

        NotFound (no session, no such member, or the owner); Ended.
        """

    # -- cursors

    async def mark(self, marks: Sequence[Mark]) -> None:
        """Raise watermarks, never above the session's head, never down.

        Unknown sessions and non-members are passed over.
        """

    async def cursors(self, session: str) -> list[Cursor]:
        """Watermarks of everybody who has any, by user."""

    # -- events, revocations

    async def events(self, *, after: int, limit: int) -> list[Event]:
        """Events with id > `after`, ascending."""

    async def events_of(self, tenant: str, *, after: int, limit: int) -> EventPage:
        """Those of one tenant, and up to which id events are gone: both as of one moment."""

    async def events_behind(self, after: int, *, limit: int) -> int:
        """How many events there are behind an id; above `limit` they need not be counted."""

    async def note(self, attendances: Sequence[Attendance]) -> None:
        """Write joins and leaves as events, in the order given; one whose `key` was written before is not.

        Those of unknown sessions are passed over. `version` is the session's at this moment.
        """

    async def purge_events(self, *, before: int, now: int, limit: int) -> Purged:
        """Delete the first events, at most `limit`, up to the last one from before `before`.

        It stops at the first that is younger; one with a time behind `now` is as old as those around it.
        """

    async def hold_delivery(self, node: str, *, delivered: int, lease_ms: int) -> int | None:
        """Be the one node that delivers events, for so long; return up to which id they are delivered.

        None: another node is. In any case those up to `delivered` count as delivered from now on. A lease
        of 0 lets go.
        """

    async def revoke(self, tenant: str, user: str, *, before: int) -> Revocation:
        """Make the user's tokens issued before `before` worthless, for good."""

    async def revocations(self, *, after: int, limit: int) -> list[Revocation]:
        """Revocations with id > `after`, ascending.

        A node reads them all at start, then the new ones every few seconds.
        """
