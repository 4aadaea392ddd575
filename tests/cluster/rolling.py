"""Three nodes are restarted one after the other, under Python clients behind the balancer; what they noticed.

Their own history says what was lost, twice or out of order. A client is silent while it could have heard or
said something and did not: while it has no connection, while a message on its way to it is late, or an ack.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import httpx

from loadtest.cluster.balancer import Balancer, Target
from loadtest.cluster.node import listening
from session_gateway_client import Event, PresenceChanged, Signal, StateChanged
from tests.cluster.world import Ground, World
from tests.evidence.checker import Violation, check
from tests.evidence.history import History, Record
from tests.evidence.stored import read_postgres
from tests.evidence.timing import Spread
from tests.process import GatewayProcess
from tests.soak.actor import Actor
from tests.waiting import later, until

# The pod's life: the drain, what is in flight, and the sockets that do not answer (docs/nodes.md).
BEYOND_DRAIN_S: Final = 15.0
ENTERING: Final = 16
SIGNALS_PER_S: Final = 5.0
TOKEN_TTL_S: Final = 86_400
WATCH_S: Final = 0.005
EDGE_S: Final = 1.0
STARTS_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How many, how much, and how nodes leave: a `drain_s` of 0 closes everybody at once (break first)."""

    clients: int = 300
    sessions: int = 60
    per_s: float = 200.0
    drain_s: float = 30.0
    calm_s: float = 5.0  # before the first restart and after each
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Silences:
    """The longest silence of each client, from what it saw in some span of time."""

    longest: Spread
    away: Spread  # without a connection
    late: Spread  # for a message or an ack


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    violations: list[Violation] = field(default_factory=list)
    sent: int = 0
    acked: int = 0
    calm: Silences | None = None
    restarts: Silences | None = None
    exits: list[tuple[int, float]] = field(default_factory=list)  # code, and how long the node took to leave
    signals: int = 0  # heard
    signals_twice: int = 0
    leaves: int = 0  # of users of whom others were told that they had left
    reasons: Counter[str] = field(default_factory=Counter)
    own: Spread | None = None  # how late the loop was in which all the clients run, in the restarts

    @property
    def kinds(self) -> Counter[str]:
        """How many violations of which kind."""
        return Counter(violation.kind for violation in self.violations)


class Mover(Actor):
    """An actor that keeps when it was away, and what it heard of signals and presence."""

    def __init__(self, name: str, url: str, token: str, history: History, group: asyncio.TaskGroup) -> None:
        super().__init__(name, url, token, history, group)
        self.gaps: list[tuple[float, float]] = []
        self.heard_signals: Counter[object] = Counter()
        self.leaves = 0
        self._lost_at: float | None = None

    def _hear(self, event: Event) -> None:
        super()._hear(event)
        match event:
            case StateChanged(state="open"):
                if self._lost_at is not None:
                    self.gaps.append((self._lost_at, time.monotonic()))
                self._lost_at = None
            case StateChanged() if self._lost_at is None:
                self._lost_at = time.monotonic()
            case Signal(data={"n": n}):
                self.heard_signals[n] += 1
            case PresenceChanged(event="leave"):
                self.leaves += 1


@asynccontextmanager
async def balanced(nodes: Sequence[GatewayProcess]) -> AsyncIterator[Balancer]:
    """A balancer in front of nodes that run."""
    targets = [Target(f"n{n}", node.port, node.ops_port) for n, node in enumerate(nodes, 1)]
    async with Balancer(targets, tell=lambda line: None) as balancer:
        await balancer.start(listening(0))
        yield balancer


class Rolling:
    """One run: its clients, their talk, and the restarts."""

    def __init__(self, world: World, balancer: Balancer, plan: Plan, history: History) -> None:
        self._world = world
        self._balancer = balancer
        self._plan = plan
        self._history = history
        self._chance = Random(f"rolling:{plan.seed}")  # noqa: S311 - who says what
        self._signals = 0
        self.movers: list[Mover] = []
        self.own: list[float] = []

    async def gather(self, group: asyncio.TaskGroup) -> None:
        """Have everybody come through the balancer, and into sessions."""
        url = f"ws://127.0.0.1:{self._balancer.port}/ws"
        node = self._world.nodes[0]
        for n in range(self._plan.clients):
            name = f"mover-{n}"
            self.movers.append(Mover(name, url, node.token(name, ttl_s=TOKEN_TTL_S), self._history, group))
        door = asyncio.Semaphore(ENTERING)

        async def enter(mover: Mover) -> None:
            async with door:
                await mover.enter()

        await asyncio.gather(*(enter(mover) for mover in self.movers))
        async with httpx.AsyncClient(trust_env=False, base_url=node.url, timeout=30) as http:

            async def meet(members: list[Mover]) -> None:
                async with door:
                    owner, *others = members
                    session = await owner.client.open(persistent=True)
                    owner.join(session)
                    headers = {"Authorization": f"Bearer {node.token(owner.name)}"}
                    for other in others:
                        path = f"/api/v1/sessions/{session.id}/members/{other.name}"
                        (await http.put(path, json={"role": "writer"}, headers=headers)).raise_for_status()
                        other.join(await other.client.attach(session.id, since=0))

            groups = [self.movers[n :: self._plan.sessions] for n in range(self._plan.sessions)]
            await asyncio.gather(*(meet(members) for members in groups))

    async def talk(self, stop: asyncio.Event) -> None:
        """Say something at the rate of the plan, and make signs now and then."""
        due = next_sign = time.monotonic()
        while not stop.is_set():
            self._chance.choice(self.movers).burst(self._chance, 1)
            if time.monotonic() >= next_sign:
                next_sign += 1 / SIGNALS_PER_S
                self._sign()
            due = max(due + self._chance.expovariate(self._plan.per_s), time.monotonic() - 1)
            if (pause := due - time.monotonic()) > 0:
                await later(pause)
            else:
                await later(0)

    def _sign(self) -> None:
        mover = self._chance.choice(self.movers)
        self._signals += 1
        for session in mover.sessions.values():
            session.signal("sign", {"n": self._signals})

    async def restart_all(self) -> list[tuple[int, float]]:
        """Have each node leave and come back, and the balancer notice, before the next one's turn."""
        exits = []
        for node, target in zip(self._world.nodes, self._balancer.targets, strict=True):
            began = time.monotonic()
            code = await node.terminate(within=self._plan.drain_s + BEYOND_DRAIN_S)
            exits.append((code, time.monotonic() - began))
            await node.start(within=STARTS_WITHIN_S)
            await until(lambda target=target: target.is_ready, within=10, what="the balancer has noticed")
            await later(self._plan.calm_s)
        return exits

    async def watch(self, stop: asyncio.Event) -> None:
        """Note how late this loop is: that much of each silence is the clients' own."""
        while not stop.is_set():
            began = time.monotonic()
            await later(WATCH_S)
            self.own.append(time.monotonic() - began - WATCH_S)

    async def settle(self) -> None:
        """Wait until everything is answered and everybody has everything."""
        movers = self.movers
        await until(lambda: all(each.is_settled for each in movers), within=60, what="every message answered")
        heads = {id: 0 for mover in movers for id in mover.sessions}
        for record in self._history.records:
            if record.op == "ack":
                heads[record.session] = max(heads[record.session], record.seq or 0)
        await until(lambda: all(each.has_all(heads) for each in movers), within=60, what="everybody complete")
        for mover in movers:
            mover.note_complete()

    def silences(self, begin: float, end: float) -> Silences:
        """Sum up what each client saw of what happened in this time."""
        away: dict[str, float] = {mover.name: 0.0 for mover in self.movers}
        for mover in self.movers:
            for since, until_ in mover.gaps:
                if begin <= since <= end:
                    away[mover.name] = max(away[mover.name], until_ - since)
        late = lateness(self._history.records, begin, end)
        both = [max(away[name], late[name]) for name in away]
        return Silences(Spread.of(both), Spread.of(list(away.values())), Spread.of([late[n] for n in away]))


def lateness(records: Sequence[Record], begin: float, end: float) -> dict[str, float]:
    """For each client the longest from a sending in this time to its delivery there, or to its ack."""
    sent: dict[tuple[str, str, str], float] = {}
    longest: dict[str, float] = defaultdict(float)
    for record in records:
        message = (record.session, record.sender or "", record.id or "")
        if record.op == "send":
            sent.setdefault(message, record.at)
        elif record.op in ("deliver", "ack") and begin <= (at := sent.get(message, -1.0)) <= end:
            longest[record.client] = max(longest[record.client], record.at - at)
    return longest


async def roll(folder: Path, ground: Ground, plan: Plan) -> Outcome:
    """Do a whole run; history and logs stay in the folder."""
    history, stop, outcome = History(folder / "history.jsonl"), asyncio.Event(), Outcome()
    env = {"GATEWAY_DRAIN_S": f"{plan.drain_s:g}", "GATEWAY_HEARTBEAT_MS": "5000"}
    async with AsyncExitStack() as stack:
        stack.callback(history.close)
        world = await stack.enter_async_context(World(folder, ground, count=3, env=env))
        balancer = await stack.enter_async_context(balanced(world.nodes))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        run = Rolling(world, balancer, plan, history)
        try:
            await run.gather(group)
            talking = group.create_task(run.talk(stop), name="everybody talks")
            calm = time.monotonic()
            await later(plan.calm_s)
            begin = time.monotonic()
            watching = group.create_task(run.watch(stop), name="how late the loop is")
            outcome.exits = await run.restart_all()
            end = time.monotonic()
            stop.set()
            await asyncio.wait([talking, watching])
            await run.settle()
        finally:
            stop.set()
            await asyncio.gather(*(mover.leave() for mover in run.movers))
    outcome.violations = check(history.records, await read_postgres(ground.database_url))
    # What was said just before the first restart may be late because of it.
    outcome.calm, outcome.restarts = run.silences(calm, begin - EDGE_S), run.silences(begin - EDGE_S, end)
    outcome.own = Spread.of(run.own)
    for mover in run.movers:
        outcome.sent += mover.sent
        outcome.acked += mover.acked
        outcome.leaves += mover.leaves
        outcome.signals += len(mover.heard_signals)
        outcome.signals_twice += sum(count > 1 for count in mover.heard_signals.values())
        outcome.reasons += mover.reasons
    return outcome
