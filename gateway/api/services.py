"""What the HTTP routes need of the rest of the gateway: declared here, provided by the composition root.

Nothing here has behaviour; whoever assembles the gateway hands over the real parts.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.auth.identity import Identity
from gateway.fanout.presence import PresentUser
from gateway.protocol.limits import Limits
from gateway.runtime.health import Readiness
from gateway.runtime.messages import NewMessage, Page, Posted
from gateway.runtime.migrations import Document, Kind
from gateway.runtime.searching import Matches, Query
from gateway.runtime.sessions import SessionSpec, Sight
from gateway.runtime.whereabouts import Delivery, Ending
from store.types import Change, ConnectionEntry, Cursor, EventPage, Listing, Member, Role, Session


class SessionService(Protocol):
    """Sessions and their members, every right checked, every attachment told. Raises gateway.errors."""

    async def create(self, identity: Identity, spec: SessionSpec) -> Session:
        """Start a session that the caller owns."""

    async def get(self, identity: Identity, session: str) -> Sight:
        """The session, ended or not."""

    async def delete(self, identity: Identity, session: str) -> Session:
        """End the session and show it to nobody any more."""

    async def update(
        self, identity: Identity, session: str, change: Change, expected_version: int | None = None
    ) -> Session:
        """Change what is given."""

    async def list_for(self, identity: Identity, before: tuple[int, str] | None, limit: int) -> list[Listing]:
        """The caller's sessions, latest first."""

    async def segment(self, identity: Identity, session: str) -> Session:
        """Split the session's text into sentences and store them."""

    async def search(self, identity: Identity, session: str | None, query: Query) -> Matches:
        """Messages that match, of one session or of all the caller's."""

    async def members(self, identity: Identity, session: str) -> list[Member]:
        """Everybody who has a right in the session."""

    async def cursors(self, identity: Identity, session: str) -> list[Cursor]:
        """How far everybody has received and read."""

    async def put_member(self, identity: Identity, session: str, user: str, role: Role) -> Session:
        """Give a user a right in the session."""

    async def remove_member(self, identity: Identity, session: str, user: str) -> Session:
        """Take a user's right in the session away."""


class MessageService(Protocol):
    """Messages of a session, every right checked. Raises gateway.errors."""

    async def post(self, identity: Identity, session: str, new: NewMessage) -> Posted:
        """Store a message; answers after COMMIT."""

    async def page(
        self, identity: Identity, session: str, *, before: int | None, after: int | None, limit: int
    ) -> Page:
        """Messages before or after a seq; neither: the latest."""


class WhereaboutsService(Protocol):
    """Who is where, every right checked. Raises gateway.errors and store.errors.Unavailable."""

    async def present(self, identity: Identity, session: str) -> list[PresentUser]:
        """The users who are in a session."""

    async def connections(self, identity: Identity, session: str) -> list[ConnectionEntry]:
        """The connections that are attached to a session."""

    async def delivery(self, identity: Identity, session: str) -> Delivery:
        """How far each member has come."""

    async def beat(self, identity: Identity, session: str) -> int | None:
        """Show life for a session; how long it lives from here on."""

    async def connection(self, identity: Identity, connection: str) -> ConnectionEntry:
        """A connection by its id."""

    async def disconnect(self, identity: Identity, connection: str) -> Ending:
        """Close a connection."""

    async def disconnect_user(self, identity: Identity, user: str) -> Ending:
        """Close all connections of a user."""

    async def connections_of_user(self, identity: Identity, user: str) -> list[ConnectionEntry]:
        """A user's connections."""

    async def sessions_of_user(
        self, identity: Identity, user: str, before: tuple[int, str] | None, limit: int
    ) -> list[Listing]:
        """A user's sessions, latest first."""

    def signal(self, identity: Identity, user: str, name: str, data: bytes) -> None:
        """Tell all connections of a user something that nobody stores."""


class TokenService(Protocol):
    """Credentials that are checked, and, where the gateway holds the key, made."""

    async def verify(self, token: str) -> Identity:
        """The identity a token speaks for. Unauthenticated when it speaks for none."""

    def mint(self, user: str, tenant: str = "default", ttl_s: int = 3600) -> str:
        """Make a token."""


class TicketService(Protocol):
    """One-time credentials for opening a connection."""

    async def issue(self, identity: Identity) -> tuple[str, int]:
        """A ticket and how many milliseconds it is good for."""


class EventService(Protocol):
    """What happened to sessions."""

    async def of(self, tenant: str, after: int, limit: int) -> EventPage:
        """Events of a tenant behind an id."""


class MoveService(Protocol):
    """Connections that are moved to another node, as tasks. Raises gateway.errors and Unavailable."""

    async def begin(self, tenant: str, kind: Kind, subject: str, target: str | None) -> Document:
        """Begin to move whoever is meant; without a target it is chosen."""

    async def find(self, tenant: str, task: str) -> Document:
        """How far a task has come."""

    async def all_of(self, tenant: str) -> list[Document]:
        """A tenant's latest tasks."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the routes call.

    `holds`: the identity's token has not been revoked. `revoke`: make the tokens that a user has worthless,
    and answer the moment (epoch ms) before which they were issued. `ready`: whether to send traffic here.
    `demo`: a page on this machine may have tokens by name.
    """

    sessions: SessionService
    messages: MessageService
    whereabouts: WhereaboutsService
    tokens: TokenService
    tickets: TicketService
    events: EventService
    moves: MoveService
    holds: Callable[[Identity], bool]
    revoke: Callable[[str, str], Awaitable[int]]
    ready: Callable[[], Readiness]
    limits: Limits
    demo: bool = False
