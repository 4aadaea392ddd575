"""One run of one cell: a crowd on the stage, the strokes of its plan, healing, and the checker's verdict."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.crowd import Crowd
from tests.cluster.faults import happening
from tests.cluster.truth import living, take_snapshot
from tests.evidence.checker import Violation, check
from tests.evidence.history import History, Op, Record
from tests.evidence.indexes import Leases, Untrue, check_indexes
from tests.evidence.stored import read_postgres
from tests.evidence.timing import silences
from tests.faults.cells import MAKE, Scene
from tests.faults.passing import Passing
from tests.faults.plan import CLIENTS, EXCLUSIVE, SESSIONS, Plan
from tests.faults.stage import Stage
from tests.waiting import later, until

PER_S: Final = 100.0
SIGNALS_PER_S: Final = 20.0
# A connection is in the indexes or is not; only users in sessions may outstay, for their lease.
STRICT: Final = Leases(connection_ms=0, presence_ms=60_000)
# The promise is 15 s, for a node that dies; the rest is for a machine that has other things to do.
HEALS_WITHIN_S: Final = 20.0
SETTLES_WITHIN_S: Final = 20.0
# The clients' own: who hears nothing for so long goes elsewhere, who is not let in tries the next.
DEAF_S: Final = 4.0
PATIENCE_S: Final = 3.0
LOOK_S: Final = 0.1

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. Seconds; `silences` of each client, from a fault's beginning until it healed."""

    plan: Plan
    violations: Sequence[Violation]
    healed_s: Sequence[float]
    silences: Sequence[float]
    messages: int
    seconds: float


class Run:
    """A crowd in trouble."""

    def __init__(self, stage: Stage, plan: Plan, history: History) -> None:
        self.stage = stage
        self.plan = plan
        self.history = history
        self.crowd = Crowd(stage.world.nodes, history, plan.seed)
        self.crowd.surname = f"-{plan.cell.replace('.', '-')}-{plan.seed}"
        self.crowd.is_roaming = True
        self._untrue: list[Untrue] = []

    async def strike(self) -> None:
        """Let everything happen that the plan has, one after the other, each healed before the next."""
        for stroke in self.plan.strokes:
            await later(stroke.pause_s)
            fault = MAKE[self.plan.cell](Scene(self.stage, self.crowd, stroke))
            async with happening(fault, self.history):
                await later(stroke.lasts_s)
            if await self.heals():
                self._note("heal", fault.name)

    async def heals(self) -> bool:
        """Wait until nobody notices anything any more; False after as long as it may take."""
        end = time.monotonic()
        heads: dict[str, int] = {}
        for speaker in self.crowd.speakers:
            for session, seq in speaker.heads.items():
                heads[session] = max(heads.get(session, 0), seq)

        async def is_over() -> bool:
            await later(LOOK_S)
            return self._are_served(end, heads) and await self.indexes_are_true()

        # A look takes a second and more where all cores are busy: who holds what must not change meanwhile.
        self.crowd.is_contending = False
        try:
            await until(is_over, within=HEALS_WITHIN_S)
        except AssertionError:
            for speaker in self.crowd.speakers:
                if not speaker.is_live:
                    self._note("index", "crowd", f"{speaker} after {HEALS_WITHIN_S:.0f} s")
            self._note_untrue()
            return False
        finally:
            self.crowd.is_contending = True
        return True

    def _are_served(self, end: float, heads: Mapping[str, int]) -> bool:
        """Whether all are live and have what was acked by then, and none waits for what they said before."""
        for speaker in self.crowd.speakers:
            waiting = [one for one in speaker.unacked.values() if one.session not in speaker.superseded]
            if not speaker.is_live or not speaker.has_all(heads) or any(one.said_at < end for one in waiting):
                return False
        return True

    async def indexes_are_true(self) -> bool:
        """Whether they say who is there, and nobody else."""
        snapshot = await take_snapshot(self.stage.redis.url, self.stage.world.prefix)
        self._untrue = check_indexes(snapshot, living(self.crowd), STRICT)
        return not self._untrue

    async def verdict(self) -> list[Violation]:
        """Send everybody home, write down what is stored and indexed, and hold all of it against the rest."""
        await self.crowd.leave()
        self.crowd.raise_failures()
        try:
            await until(self.indexes_are_true, within=HEALS_WITHIN_S)
        except AssertionError:
            self._note_untrue()
        stored = await read_postgres(self.stage.ground.database_url)
        mine = {record.session for record in self.history.records if record.op == "member"}
        for record in stored.records(mine):
            self.history.add(record)
        return check(self.history.records, heals_within_s=HEALS_WITHIN_S)

    def _note_untrue(self) -> None:
        for untrue in self._untrue:
            self._note("index", "indexes", str(untrue))

    def _note(self, op: Op, client: str, what: str | None = None) -> None:
        self.history.add(Record(client=client, op=op, at=time.monotonic(), session="", what=what))


def _history(folder: Path) -> History:
    folder.mkdir(parents=True, exist_ok=True)
    return History(folder / "history.jsonl")


async def play(stage: Stage, plan: Plan, folder: Path) -> Outcome:
    """Play one cell; its history stays in the folder."""
    began = time.monotonic()
    with closing(_history(folder)) as history:
        run = Run(stage, plan, history)
        crowd = run.crowd
        passing = Passing(crowd, stage.ground.database_url)
        try:
            await crowd.assemble(clients=CLIENTS, sessions=SESSIONS, exclusive=EXCLUSIVE)
            for speaker in crowd.speakers:
                speaker.patience_s, speaker.deaf_s = PATIENCE_S, DEAF_S
            async with crowd.talking(PER_S, signals_per_s=SIGNALS_PER_S), passing.coming():
                await run.strike()
            await crowd.finish(within=SETTLES_WITHIN_S)
            await passing.over(within=SETTLES_WITHIN_S)
            violations = await run.verdict()
        finally:
            await crowd.leave()
        healed, quiet = _times(history.records)
        return Outcome(plan, violations, healed, quiet, crowd.sent, time.monotonic() - began)


def _times(records: Sequence[Record]) -> tuple[list[float], list[float]]:
    """How long healing took, and each client's longest silence, over all strokes."""
    healed: list[float] = []
    quiet: dict[str, float] = {}
    begin, end = 0.0, 0.0
    for record in list(records):
        if record.op == "begin":
            begin = record.at
        elif record.op == "end":
            end = record.at
        elif record.op == "heal":
            healed.append(record.at - end)
            for client, seconds in silences(records, begin, record.at).items():
                quiet[client] = max(quiet.get(client, 0.0), seconds)
    return healed, list(quiet.values())
