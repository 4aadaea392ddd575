"""Durable sends: how many a second are acked after their commit, against one commit for each message.

Everything runs on this machine: database, Redis, the gateway, its clients, and whoever commits one by one, by
the same statement into the same database. They take turns of a few seconds; neighbours are compared.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

import click
import msgspec
import uvloop

from gateway import ids
from loadtest.ground import Groups, Meter, Servers, gateways, gather, servers, shares
from loadtest.talkers import Outcome, talkers
from store.log import Log
from store.open import Places, open_stores
from store.types import Appended, Draft, NewSession

_WARM_S: Final = 1.0


class Load(NamedTuple):
    """How much."""

    connections: int
    window: int
    seconds: float
    rounds: int
    size: int


class Turn(msgspec.Struct, frozen=True):
    """What one turn of the gateway gave."""

    outcome: Outcome
    group: float
    cpu_s: dict[str, float]

    def us(self, name: str) -> float:
        """CPU of something per acked message, in µs."""
        return self.cpu_s[name] / self.outcome.acked * 1e6

    def __str__(self) -> str:
        rate, ack = self.outcome.rate, self.outcome.ack
        used = shares(self.cpu_s, self.outcome.seconds)
        return f"{rate:7,.0f} acked/s  {ack}  {self.group:.0f} in a group; of a core: {used}"


class Round(NamedTuple):
    """One turn of each, one after the other."""

    single: float
    one: Turn
    many: Turn


async def measure(found: Servers, load: Load) -> list[Round]:
    """Let them take turns."""
    rounds = []
    async with (
        gateways(found, 1) as nodes,
        talkers(load.size) as one,
        talkers(load.size) as many,
        _alone(found) as log,
    ):
        for clients, count in ((one, 1), (many, load.connections)):
            await gather(clients, [nodes] * count, members=1)
            await clients.connect()
        session = await _session(log)
        await many.window(load.window, _WARM_S)
        groups = Groups(nodes)
        short_s = min(load.seconds, 3.0)
        for n in range(load.rounds):
            single = await single_rate(log, session, short_s, load.size)
            turns = []
            for clients, window, seconds in ((one, 1, short_s), (many, load.window, load.seconds)):
                await groups.again()
                meter = Meter.of(found, nodes, clients)
                outcome = await clients.window(window, seconds)
                turns.append(Turn(outcome, await groups.again(), meter.again()))
            rounds.append(Round(single, *turns))
            click.echo(f"{n + 1}: one by one {single:5,.0f}; {load.connections} × {load.window}: {turns[1]}")
    return rounds


@contextlib.asynccontextmanager
async def _alone(found: Servers) -> AsyncIterator[Log]:
    """Open a log for whoever commits one by one: the same database, or a SQLite file on the same disk."""
    log = open_stores(Places(found.folder / "alone", database_url=found.database_url)).log
    await log.start()
    try:
        yield log
    finally:
        await log.close()


async def _session(log: Log) -> str:
    new = NewSession(id=ids.new_id(), tenant="t", owner="u", created_at=time.time_ns() // 1_000_000)
    return (await log.create(new, limit=1)).id


async def single_rate(log: Log, session: str, seconds: float, size: int) -> float:
    """Commit messages one by one; messages a second."""
    count, begun = 0, time.monotonic()
    while time.monotonic() - begun < seconds:
        (outcome,) = await log.append([_draft(session, size)])
        if not isinstance(outcome, Appended):
            raise RuntimeError(f"the log refused a message: {outcome}")
        count += 1
    return count / (time.monotonic() - begun)


def _draft(session: str, size: int) -> Draft:
    id = ids.new_id()
    return Draft(
        session=session,
        tenant="t",
        sender="u",
        id=id,
        client_id=id,
        role="user",
        content="x" * size,
        metadata=b"{}",
        created_at=time.time_ns() // 1_000_000,
    )


def told(rounds: Sequence[Round], load: Load) -> list[str]:
    """Lay out the medians of all rounds, as Markdown."""
    single = median(each.single for each in rounds)
    names = [name for name in rounds[0].many.cpu_s if name != "others"]
    heads = ["", "acked/s", "p50 ms", "p99 ms", "in a group", *(f"{name} µs" for name in names)]
    alone = ["one commit per message, no gateway", f"{single:,.0f}", f"{1000 / single:.2f}", "", "1"]
    rows = [
        [*alone, *("" for _ in names)],
        ["gateway, one send at a time", *_figures([each.one for each in rounds])],
        [f"**gateway, {load.connections} × {load.window}**", *_figures([each.many for each in rounds])],
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    lines.insert(1, "|---" * len(heads) + "|")
    ratios = sorted(each.many.outcome.rate / each.single for each in rounds)
    middle, rate = median(ratios), median(each.many.outcome.rate for each in rounds)
    ratio = f"{middle:.1f} × one commit per message ({ratios[0]:.1f} to {ratios[-1]:.1f})"
    missed = "" if middle >= 10 and rate >= 10_000 else "  MISSED"
    return [*lines, "", f"{ratio}, {rate:,.0f} acked/s; promised 10 × and 10,000{missed}"]


def _figures(turns: Sequence[Turn]) -> list[str]:
    return [
        f"{median(turn.outcome.rate for turn in turns):,.0f}",
        f"{median(turn.outcome.ack.p50 for turn in turns) / 1000:.2f}",
        f"{median(turn.outcome.ack.p99 for turn in turns) / 1000:.2f}",
        f"{median(turn.group for turn in turns):.0f}",
        *(f"{median(turn.us(name) for turn in turns):.1f}" for name in turns[0].cpu_s if name != "others"),
    ]


@click.command()
@click.option("--connections", default=64, show_default=True, help="Senders, each with a session of its own.")
@click.option("--window", default=16, show_default=True, help="Sends on their way at once, per connection.")
@click.option("--seconds", default=5.0, show_default=True, help="How long one turn of the gateway is.")
@click.option("--rounds", default=5, show_default=True, help="How often each has its turn; medians count.")
@click.option("--size", default=128, show_default=True, help="Bytes of content.")
@click.option("--sqlite", "is_embedded", is_flag=True, help="SQLite and memory, no servers.")
def durable(*, is_embedded: bool, **load: Any) -> None:
    """Durable sends through the whole gateway, against one commit per message on the same database."""
    given = Load(**load)
    with servers(is_embedded=is_embedded) as found:
        if found.postgres is not None and found.redis is not None:
            click.echo(f"Postgres {found.postgres.version_number}, Redis {found.redis.version_number}")
        rounds = uvloop.run(measure(found, given))
    for line in ("", *told(rounds, given)):
        click.echo(line)


if __name__ == "__main__":
    durable()
