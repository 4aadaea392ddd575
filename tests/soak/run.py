"""Runs a plan: a real gateway, its actors, the kills; at the end, history against database."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import httpx

from tests.evidence.checker import Violation, check
from tests.evidence.history import History
from tests.evidence.stored import read_sqlite
from tests.process import GatewayProcess
from tests.soak.actor import CLOCK, Actor
from tests.soak.plan import Kill, Plan
from tests.waiting import until

# From readiness until every client is connected again. A client that missed some tries waits up to 20 s for
# its next.
CONNECTED_WITHIN_S: Final = 45.0
PATIENCE_S: Final = 1.0
ACKED_WITHIN_S: Final = 20.0
DRAINED_WITHIN_S: Final = 60.0
TOKEN_TTL_S: Final = 7 * 86_400


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    sent: int = 0
    acked: int = 0
    # Acked only at the second try, because the first ack died with the gateway: kills that hit a commit.
    duplicates: int = 0
    delivered: int = 0
    stored: int = 0
    # Seconds from each restart's readiness until every client was connected.
    back_s: list[float] = field(default_factory=list)
    # Why clients were away, and how often.
    reasons: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def __str__(self) -> str:
        back = sorted(self.back_s) or [0.0]
        return (
            f"{len(self.back_s)} kills, {self.sent} sent, {self.acked} acked "
            f"({self.duplicates} at the second try), {self.stored} stored, {self.delivered} delivered, "
            f"all clients back after {back[len(back) // 2]:.1f} s (median), {back[-1]:.1f} s (longest); "
            f"{len(self.violations)} violations"
        )


async def run_soak(
    plan: Plan, directory: Path, report: Callable[[str], None], *, module: str = "gateway"
) -> Outcome:
    """Run the plan in `directory`, where history and database stay. What was not kept is in the outcome."""
    outcome = Outcome()
    history = History(directory / "history.jsonl")
    gateway = GatewayProcess(directory / "data", command=(sys.executable, "-m", module, "serve"))
    try:
        async with asyncio.timeout(120 + 60 * len(plan.kills)), gateway:
            actors = await _perform(plan, gateway, history, outcome, report)
            await gateway.terminate()
    except Exception as failure:
        # A client that cannot go on is often the first to see a broken promise. What was not finished is no
        # news.
        known = check(history.records, read_sqlite(gateway.database))
        broken = [violation for violation in known if violation.kind not in ("incomplete", "unanswered")]
        failure.add_note("\n".join(map(str, [f"{len(broken)} violations until then", *broken[:20]])))
        raise
    finally:
        history.close()
    outcome.sent = sum(actor.sent for actor in actors)
    outcome.acked = sum(actor.acked for actor in actors)
    outcome.duplicates = sum(actor.duplicates for actor in actors)
    outcome.delivered = sum(actor.delivered for actor in actors)
    outcome.reasons = sum((actor.reasons for actor in actors), Counter())
    stored = read_sqlite(gateway.database)
    outcome.stored = len(stored.messages)
    outcome.violations = check(history.records, stored)
    return outcome


async def _perform(
    plan: Plan, gateway: GatewayProcess, history: History, outcome: Outcome, report: Callable[[str], None]
) -> list[Actor]:
    async with asyncio.TaskGroup() as group:
        actors = [
            Actor(name, gateway.ws_url, gateway.token(name, ttl_s=TOKEN_TTL_S), history, group)
            for name in (f"user-{n}" for n in range(plan.clients))
        ]
        try:
            await _gather_in_sessions(plan, gateway, actors)
            stop = asyncio.Event()
            chances = [Random(f"{plan.seed}:{actor.name}") for actor in actors]  # noqa: S311 - what to say
            talking = [
                group.create_task(actor.talk(chance, stop), name=f"{actor.name} talks")
                for actor, chance in zip(actors, chances, strict=True)
            ]
            for n, kill in enumerate(plan.kills, 1):
                await _kill(kill, gateway, actors, chances)
                outcome.back_s.append(await _come_back(kill, gateway, actors))
                said = f"back in {outcome.back_s[-1]:.2f} s, {sum(actor.acked for actor in actors)} acked"
                report(f"kill {n}/{len(plan.kills)} at {kill.moment}: {said}")
            stop.set()
            await asyncio.wait(talking)
            await _drain(actors)
        except AssertionError as failure:
            failure.add_note("\n".join(str(actor) for actor in actors))
            raise
        finally:
            await asyncio.gather(*(actor.leave() for actor in actors))
    return actors


async def _gather_in_sessions(plan: Plan, gateway: GatewayProcess, actors: list[Actor]) -> None:
    await asyncio.gather(*(actor.enter() for actor in actors))
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
        for n, (owner, *others) in enumerate(plan.members):
            session = await actors[owner].client.open(title=f"Soak {n}", persistent=True)
            actors[owner].join(session)
            headers = {"Authorization": f"Bearer {gateway.token(actors[owner].name)}"}
            for other in others:
                path = f"/api/v1/sessions/{session.id}/members/{actors[other].name}"
                answer = await http.put(path, json={"role": "writer"}, headers=headers)
                answer.raise_for_status()
                actors[other].join(await actors[other].client.attach(session.id, since=0))


async def _kill(kill: Kill, gateway: GatewayProcess, actors: list[Actor], chances: list[Random]) -> None:
    match kill.moment:
        case "quiet":
            await CLOCK.sleep(kill.after_s)
        case "commit":
            await CLOCK.sleep(kill.after_s)
            for actor, chance in zip(actors, chances, strict=True):
                actor.burst(chance, kill.burst)
            if kill.delay_s is None:
                await _first_ack(actors)
            else:
                await CLOCK.sleep(kill.delay_s)
        case "start":
            await gateway.kill()
            await gateway.launch()
            await CLOCK.sleep(kill.after_s)
    await gateway.kill()


async def _first_ack(actors: list[Actor]) -> None:
    for actor in actors:
        actor.heard.clear()
    # Not polled: ten milliseconds later the group would be committed.
    hearing = [asyncio.ensure_future(actor.heard.wait()) for actor in actors]
    try:
        heard, _ = await asyncio.wait(hearing, timeout=ACKED_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in hearing:
            task.cancel()
    if not heard:
        raise AssertionError(f"no ack within {ACKED_WITHIN_S} s")


async def _come_back(kill: Kill, gateway: GatewayProcess, actors: list[Actor]) -> float:
    """Start the gateway, and return how long it took from readiness until every client was connected."""
    async with asyncio.TaskGroup() as group:
        if kill.renewed is not None:
            group.create_task(actors[kill.renewed].renew(), name="renewing")
        await gateway.start()
        ready_at = CLOCK.monotonic()
        try:
            await until(lambda: are_connected(actors), within=PATIENCE_S)
        except AssertionError:
            # Kills come faster than the ten good seconds after which a back-off starts anew: left alone, the
            # clients would be away most of the time. So the network comes back for them, as it does for a
            # laptop that is opened.
            for actor in actors:
                actor.retry_now()
            await until(
                lambda: are_connected(actors), within=CONNECTED_WITHIN_S, what="all clients connected"
            )
        return CLOCK.monotonic() - ready_at


def are_connected(actors: list[Actor]) -> bool:
    return all(actor.is_connected for actor in actors)


async def _drain(actors: list[Actor]) -> None:
    """Wait until everything sent is answered, and everybody has everything."""
    await until(
        lambda: all(actor.is_settled for actor in actors),
        within=DRAINED_WITHIN_S,
        what="every message answered",
    )
    heads = {id: await actor.head(id) for actor in actors for id in actor.sessions}
    await until(
        lambda: all(actor.has_all(heads) for actor in actors),
        within=DRAINED_WITHIN_S,
        what="everybody complete",
    )
    for actor in actors:
        actor.note_complete()
