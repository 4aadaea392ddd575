"""What a member's role allows, and what the operator scope does. Nobody decides elsewhere."""

from typing import Final, Literal

from gateway.auth.identity import Identity
from store.types import Role

Action = Literal[
    "attach",  # read the session as it goes on
    "history",
    "mark",  # one's own read marker
    "presence",
    "leave",  # end one's own membership
    "send",
    "signal",
    "update",  # title, context, metadata
    "archive",
    "keep",  # how long the session lives
    "close",
    "delete",
    "list_members",
    "change_members",
]

OPERATOR: Final = "operator"

_READER: Final[frozenset[Action]] = frozenset(
    {"attach", "history", "mark", "presence", "leave", "list_members"}
)
# A reader does not signal: whoever may not speak may not make everybody's screen flicker either.
_WRITER: Final[frozenset[Action]] = _READER | {"send", "signal", "update"}
# The owner cannot leave: a session without an owner could be ended by nobody.
_OWNER: Final[frozenset[Action]] = (_WRITER - {"leave"}) | {
    "archive",
    "keep",
    "close",
    "delete",
    "change_members",
}

ALLOWED: Final[dict[Role, frozenset[Action]]] = {"reader": _READER, "writer": _WRITER, "owner": _OWNER}


def allows(role: Role, action: Action) -> bool:
    """Whether a member of this role may do this in the session."""
    return action in ALLOWED[role]


def may(identity: Identity, role: Role | None, action: Action) -> bool:
    """Whether the caller, whose role in the session this is, may do this in it.

    An operator may do it in any session of the tenant, a member of it or not. Whoever asks has seen to it
    that the session is one of the identity's tenant.
    """
    return is_operator(identity) or (role is not None and allows(role, action))


def is_operator(identity: Identity) -> bool:
    """Whether the token carries the operator scope, which counts inside its tenant only."""
    return OPERATOR in identity.scopes


def may_revoke(identity: Identity, tenant: str, user: str) -> bool:
    """Whether the caller may make this user's tokens worthless: their own, or as operator of the tenant."""
    return identity.tenant == tenant and (identity.user == user or is_operator(identity))
