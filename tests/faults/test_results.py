"""What came of many runs: kept as it comes, not repeated, summed up, and played side by side."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.faults import results, series, table
from tests.faults.__main__ import main
from tests.faults.plan import CELLS, Plan, make_plan
from tests.faults.results import Result
from tests.faults.run import Outcome
from tests.faults.streams import ON_ONE_STAGE, Orders, Progress, chunks, expected_s, play_side_by_side
from tests.waiting import turns, until


def of(cell: str, seed: int, **more: Any) -> Result:
    known = {"commit": "abc", "at": "2026-01-01T00:00:00+00:00", "load": 1.0, "strokes": 1, **more}
    return Result(cell=cell, seed=seed, **known)


def plans_of(cells: int, seeds: int) -> list[Plan]:
    return [make_plan(cell, seed, seconds=1.0) for cell in CELLS[:cells] for seed in range(1, seeds + 1)]


# -- the file


def test_results_are_read_back_as_they_were_added_and_a_half_written_one_is_not_there_yet(
    tmp_path: Path,
) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    assert results.read(path) == []
    added = [of("redis.slow", 1, silences=[0.5, 1.5]), of("node.kill", 2, broke="Traceback\nOSError")]
    for result in added:
        results.add(path, result)
    assert results.read(path) == added
    with path.open("a") as file:
        file.write('{"cell":"node.k')
    assert results.read(path) == added


def test_what_has_a_verdict_is_not_played_again_and_what_broke_is() -> None:
    jobs = [("node.kill", seed) for seed in (1, 2, 3, 4)]
    there = [of("node.kill", 1), of("node.kill", 2, found=3), of("node.kill", 3, broke="OSError")]
    assert results.missing(jobs, there) == [("node.kill", 3), ("node.kill", 4)]
    assert results.missing(jobs, [*there, of("node.kill", 3)]) == [("node.kill", 4)]


def test_a_run_that_broke_is_neither_clean_nor_counted_and_still_told() -> None:
    broke = of("node.kill", 2, broke="no ports\nTraceback", load=9.5)
    there = [of("node.kill", 1, messages=5, healed_s=[0.5, 2.0], silences=[1.0, 3.0], found=2), broke]
    assert not broke.is_clean
    assert list(table.rows(there))[2:] == ["| node.kill | 1 | 5 | 2 | 0.5 / 2.0 s | 1.0 / 3.0 s |"]
    said = "\n".join(table.notes(there))
    assert "1 runs of 1 cells, 1 faults, 5 messages, 2 violations" in said
    assert "commits: abc (1 runs)" in said
    assert "no ports" in said
    assert "load 9.5" in said


# -- the order of them


@given(st.integers(1, len(CELLS)), st.integers(1, 13))
def test_each_run_has_its_place_and_all_cells_come_before_more_seeds(cells: int, seeds: int) -> None:
    plans = plans_of(cells, seeds)
    dealt = chunks(plans)
    assert sorted((p.cell, p.seed) for chunk in dealt for p in chunk) == sorted(
        (p.cell, p.seed) for p in plans
    )
    assert all(len(chunk) <= ON_ONE_STAGE and len({plan.cell for plan in chunk}) == 1 for chunk in dealt)
    firsts = [chunk[0].seed for chunk in dealt]
    assert firsts == sorted(firsts)


def test_what_is_left_takes_as_long_as_what_was() -> None:
    plans = plans_of(1, 4)
    progress = Progress(plans, 2, began=100.0)
    assert progress.left_s(100.0) == expected_s(plans) / 2
    progress.played += [of(plans[0].cell, seed) for seed in (1, 2)]
    longest, shortest = 1.3 * 40, 0.7 * 40
    assert shortest < progress.left_s(140.0) < longest
    progress.played += [of(plans[0].cell, seed, found=1) for seed in (3, 4)]
    assert progress.left_s(180.0) == 0
    assert progress.line(180.0).startswith("4 of 4, 2 violations, 0 broken, 0 min left")


# -- the command


def test_results_that_are_there_are_not_added_to_by_mistake(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results.add(path, of("node.kill", 1))
    said = CliRunner().invoke(main, ["--cell", "node.kill", "--results", str(path)])
    assert said.exit_code == 2
    assert "--resume" in said.output


def test_the_table_is_printed_from_the_results_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results.add(path, of("node.kill", 1))
    said = CliRunner().invoke(main, ["--table", "--results", str(path)])
    assert said.exit_code == 0
    assert "| node.kill | 1 | 0 | 0 |" in said.output
    results.add(path, of("node.kill", 2, found=1))
    assert CliRunner().invoke(main, ["--table", "--results", str(path)]).exit_code == 1


def test_who_resumes_plays_nothing_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results.add(path, of("node.kill", 1))
    said = CliRunner().invoke(main, ["--cell", "node.kill", "--resume", "--results", str(path)])
    assert said.exit_code == 0
    assert said.output.startswith("0 runs")


# -- one after the other


async def test_a_stage_that_cannot_be_set_up_costs_one_run_and_one_that_cannot_be_taken_down_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = 0

    @asynccontextmanager
    async def set_up(folder: Path) -> AsyncIterator[None]:
        nonlocal stages
        stages += 1
        await turns()
        if stages == 1:
            raise OSError("no ports are free")
        yield
        raise OSError("the server does not stop")

    async def play(stage: None, plan: Plan, folder: Path) -> Outcome:
        await turns()
        return Outcome(plan, [], [0.1], [0.2], 7, 1.0)

    monkeypatch.setattr(series, "set_up", set_up)
    monkeypatch.setattr(series, "play", play)
    path = tmp_path / "results.jsonl"
    await series.play_all(plans_of(1, 3), tmp_path, path, print)
    there = results.read(path)
    assert [result.seed for result in there] == [1, 2, 3]
    assert [result.broke is None for result in there] == [False, True, True]
    assert "no ports are free" in (there[0].broke or "")


async def test_what_goes_wrong_while_all_is_ended_does_not_have_it_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def set_up(folder: Path) -> AsyncIterator[None]:
        try:
            yield
        finally:
            raise OSError("a node that was cut off while it left")

    async def play(stage: None, plan: Plan, folder: Path) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError("it is ended before")

    monkeypatch.setattr(series, "set_up", set_up)
    monkeypatch.setattr(series, "play", play)
    playing = asyncio.ensure_future(series.play_all(plans_of(1, 3), tmp_path, tmp_path / "r.jsonl", print))
    await turns(3)
    playing.cancel()
    with pytest.raises(OSError, match="cut off"):
        await asyncio.wait_for(playing, 2.0)


# -- side by side

# Adds results as the real one does, but for seed 3, at which it fails, and 4, at which it waits for its end.
CHILD = """
    import json, pathlib, signal, sys, time
    from tests.faults import results
    from tests.faults.results import Result
    def told(name):
        return sys.argv[sys.argv.index(name) + 1]
    cell, first, count = told("--cell"), int(told("--seed")), int(told("--seeds"))
    file = pathlib.Path(told("--results"))
    for seed in range(first, first + count):
        if seed == 3:
            print("no ports are free", flush=True)
            sys.exit(1)
        if seed == 4:
            try:
                (file.parent / f"waiting-{cell}").touch()
                time.sleep(60)
            except KeyboardInterrupt:
                (file.parent / f"ended-{cell}").touch()
                raise
        results.add(file, Result(cell=cell, seed=seed, commit="", at="", load=0.0, strokes=1))
        print(seed, flush=True)
"""


def orders(tmp_path: Path) -> Orders:
    return Orders(tmp_path / "results.jsonl", tmp_path, (), (sys.executable, "-c", dedent(CHILD)))


async def test_all_are_played_and_what_came_to_no_verdict_is_told_with_what_was_said(tmp_path: Path) -> None:
    said: list[str] = []
    await play_side_by_side(plans_of(3, 3), 2, orders(tmp_path), said.append)
    there = results.read(tmp_path / "results.jsonl")
    assert {result.job for result in there} == {(cell, seed) for cell in CELLS[:3] for seed in (1, 2)}
    assert sum("of 9, 0 violations" in line for line in said) == 6
    assert sum("without a verdict" in line and "no ports are free" in line for line in said) == 3


async def test_interrupted_it_ends_what_runs_in_order_and_keeps_what_has_come(tmp_path: Path) -> None:
    plans = [make_plan(cell, 4, seconds=1.0) for cell in CELLS[:2]]
    playing = asyncio.ensure_future(play_side_by_side(plans, 2, orders(tmp_path), print))

    def marks(kind: str) -> int:
        return len(list(tmp_path.glob(f"{kind}-*")))

    await until(lambda: marks("waiting") == 2, within=20.0)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert marks("ended") == 2
