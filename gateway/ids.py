"""Identifiers. Ids are UUIDv7 (RFC 9562): sortable by time, so that index pages stay warm."""

import re
import secrets
from typing import Final

import uuid_utils

# What may become part of a key in a store. Anything else is answered as unknown, before it gets there.
NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_id() -> str:
    """Make a UUIDv7 in canonical text form."""
    return str(uuid_utils.uuid7())


def new_secret() -> str:
    """Make an unguessable URL-safe token of 256 bits."""
    return secrets.token_urlsafe(32)


def is_id(text: str) -> bool:
    """Whether the text is a UUID in canonical lower-case form."""
    return _UUID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether the text may name a user or tenant: 1 to 64 of letters, digits and `_.:-`."""
    return NAME.fullmatch(text) is not None
