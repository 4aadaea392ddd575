"""What a soak run does and when, from its seed alone. No I/O, no clock."""

from dataclasses import dataclass
from random import Random
from typing import Literal

# quiet: at any moment of ordinary traffic. commit: right after all clients sent at once, in the middle of a
# group commit. start: while the restarted gateway opens its database, before anybody is connected.
Moment = Literal["quiet", "commit", "start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One SIGKILL: after how much traffic (or starting), at what moment, and who starts anew.

    `burst` messages are sent at once by every client before a kill at `commit`; it comes `delay_s` later, or,
    where that is None, with the first ack, when the next group is being committed. `renewed` is the client
    that is closed and made anew after this kill, with nothing but its cursors.
    """

    moment: Moment
    after_s: float
    burst: int = 0
    delay_s: float | None = None
    renewed: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run. Session n belongs to client n % clients; `members[n]` are those who take part in it."""

    seed: int
    clients: int
    members: tuple[tuple[int, ...], ...]
    kills: tuple[Kill, ...]


def make_plan(*, seed: int, kills: int, clients: int, sessions: int) -> Plan:
    """Draw a run. The same arguments give the same plan, and more kills only add to its end."""
    chance = Random(f"soak:{seed}")  # noqa: S311 - a schedule, not a secret
    members = tuple(_members(chance, session % clients, clients) for session in range(sessions))
    return Plan(seed, clients, members, tuple(_kill(chance, clients) for _ in range(kills)))


def _members(chance: Random, owner: int, clients: int) -> tuple[int, ...]:
    others = [client for client in range(clients) if client != owner]
    count = chance.randint(min(1, len(others)), len(others))
    return (owner, *sorted(chance.sample(others, count)))


def _kill(chance: Random, clients: int) -> Kill:
    renewed = chance.randrange(clients) if chance.random() < 0.3 else None
    match chance.choices(("quiet", "commit", "start"), weights=(4, 5, 1))[0]:
        case "commit":
            # A group commit with its fsync takes from one to some tens of milliseconds here.
            delay = chance.uniform(0.0, 0.03) if chance.random() < 0.5 else None
            return Kill(
                moment="commit",
                after_s=chance.uniform(0.1, 0.8),
                burst=chance.randint(3, 12),
                delay_s=delay,
                renewed=renewed,
            )
        case "start":
            return Kill(moment="start", after_s=chance.uniform(0.05, 0.7), renewed=renewed)
        case _:
            return Kill(moment="quiet", after_s=chance.uniform(0.1, 1.5), renewed=renewed)
