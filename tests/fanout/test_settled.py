"""Settled rooms against a dict: whatever comes and goes, the sums are right and every room is somewhere."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.fanout import settled as settled_module
from gateway.fanout.settled import Batch, Settled
from store.types import Tally

FEW = 4
ROOMS = st.integers(0, 30).map(str)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled_module, "BATCH_ROOMS", FEW)


def filled(*sizes: int) -> Settled:
    """Batches of these sizes, full ones first."""
    settled = Settled()
    for batch in range(len(sizes)):
        for room in range(FEW):
            settled.settle(f"{batch}.{room}", 1)
    for batch, size in enumerate(sizes):
        for room in range(size, FEW):
            settled.forget(f"{batch}.{room}")
    return settled


def sizes(batches: list[Batch]) -> list[int]:
    return sorted(len(batch.counts) for batch in batches)


def test_a_room_counts_with_what_it_was_settled_with_last() -> None:
    settled = Settled()
    settled.settle("a", 5)
    settled.settle("b", 7)
    settled.settle("a", 6)
    (batch,) = settled.pack()
    assert batch.tally == Tally(sessions=2, steps=13)
    settled.unsettle("b")
    assert batch.tally == Tally(sessions=1, steps=6)
    assert settled.unsettled == ["b"]


def test_small_batches_are_put_together() -> None:
    assert sizes(filled(1, 1, 1, 1).pack()) == [4]
    assert sizes(filled(3, 1, 2, 4).pack()) == [3, 3, 4]
    assert sizes(filled(3, 3, 3).pack()) == [3, 3, 3]
    settled = filled(4, 1, 4)
    for room in range(4):
        settled.settle(f"new {room}", 1)
    assert sizes(settled.pack()) == [1, 4, 4, 4]


def test_nothing_is_left_of_what_is_forgotten() -> None:
    settled = filled(4, 4, 2)
    settled.unsettle("unsettled")
    for room in [*settled._batch_of, "unsettled"]:
        settled.forget(room)
    assert settled.pack() == []
    assert settled.unsettled == []
    assert not settled._batch_of
    assert not settled._filling.counts


@given(st.lists(st.tuples(st.sampled_from(["settle", "settle", "unsettle", "forget", "pack"]), ROOMS)))
def test_every_room_is_in_one_place_and_every_sum_is_right(steps: list[tuple[str, str]]) -> None:
    settled, model = Settled(), dict[str, int | None]()
    for number, (kind, room) in enumerate(steps):
        match kind:
            case "settle":
                settled.settle(room, number)
                model[room] = number
            case "unsettle":
                settled.unsettle(room)
                model[room] = None
            case "forget":
                settled.forget(room)
                model.pop(room, None)
            case _:
                packed = settled.pack()
                assert len(packed) <= 2 * len(model) / FEW + 1
                assert set(packed) == settled._batches
        counts = {room: count for room, count in model.items() if count is not None}
        batches = list(settled._batches)
        assert {room: n for batch in batches for room, n in batch.counts.items()} == counts
        assert sum(len(batch.counts) for batch in batches) == len(counts)
        for batch in batches:
            assert batch.tally == Tally(sessions=len(batch.counts), steps=sum(batch.counts.values()))
            assert 0 < len(batch.counts) <= FEW
            assert all(settled._batch_of[room] is batch for room in batch.counts)
        assert set(settled.unsettled) == model.keys() - counts.keys()
        assert [room in settled for room in model] == [room in counts for room in model]
