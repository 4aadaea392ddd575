"""Who a checked token speaks for. Expiry and revocation are decided by others, from these values."""

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """The subject of a token. `issued_at` and `expires_at` are epoch ms."""

    tenant: str
    user: str
    scopes: frozenset[str]
    issued_at: int
    expires_at: int
