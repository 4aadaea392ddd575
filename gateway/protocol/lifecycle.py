"""The states of a session as a node sees it, as one table. No right depends on them."""

from collections.abc import Mapping
from typing import Final, Literal

State = Literal["connecting", "active", "idle", "disconnecting", "closed"]
Input = Literal["attached", "traffic", "quiet", "emptied", "window_over", "ended"]

# A pair that is missing cannot happen; should it, the step is an error, and no state is invented.
TABLE: Final[Mapping[tuple[State, Input], State]] = {
    ("connecting", "attached"): "active",
    ("connecting", "window_over"): "connecting",
    ("connecting", "ended"): "closed",
    ("active", "attached"): "active",
    ("active", "traffic"): "active",
    ("active", "quiet"): "idle",
    ("active", "emptied"): "disconnecting",
    ("active", "ended"): "closed",
    ("idle", "attached"): "active",
    ("idle", "traffic"): "active",
    ("idle", "quiet"): "idle",
    ("idle", "emptied"): "disconnecting",
    ("idle", "window_over"): "idle",
    ("idle", "ended"): "closed",
    ("disconnecting", "attached"): "active",
    # A message committed after its sender's connection had gone.
    ("disconnecting", "traffic"): "disconnecting",
    ("disconnecting", "quiet"): "disconnecting",
    # Nobody has come back: the session waits, and its TTL decides.
    ("disconnecting", "window_over"): "idle",
    ("disconnecting", "ended"): "closed",
    # Closed is terminal; what was on its way may still arrive. Nobody is attached any more.
    ("closed", "traffic"): "closed",
    ("closed", "quiet"): "closed",
    ("closed", "emptied"): "closed",
    ("closed", "window_over"): "closed",
    ("closed", "ended"): "closed",
}


def step(state: State, happening: Input) -> State:
    """Return the state after the input. KeyError when the pair cannot happen."""
    return TABLE[state, happening]
