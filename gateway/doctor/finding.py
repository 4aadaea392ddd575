"""What an examination says of one thing."""

from typing import Literal

import msgspec

State = Literal["ok", "note", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """One thing examined. `advice` is empty where nothing has to be done."""

    check: str
    state: State
    found: str
    advice: str = ""
