"""Who is sent where, from the register of nodes alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.runtime.targets import chosen, plan, shares
from store.types import NodeEntry


def node(id: str, connections: int = 0, *, url: bool = True, leaving: bool = False) -> NodeEntry:
    address = f"ws://{id}/ws" if url else None
    return NodeEntry(id=id, url=address, started_at=0, connections=connections, is_leaving=leaving)


def test_the_least_loaded_other_node_is_chosen_before_one_that_has_some_of_them() -> None:
    nodes = [node("n1", 0), node("n2", 5), node("n3", 9)]
    assert chosen(nodes, {"n1"}, None).id == "n2"
    assert chosen(nodes, {"n1", "n2"}, None).id == "n3"
    assert chosen(nodes, {"n1", "n2", "n3"}, None).id == "n1"
    with pytest.raises(BadRequest, match="n1 has the connections"):
        chosen([node("n1")], {"n1"}, None)
    with pytest.raises(BadRequest, match="the register has none"):
        chosen([], {"n1"}, None)


def test_nobody_gives_below_their_share_and_the_one_with_most_keeps_one_more() -> None:
    assert shares([node("n1", 10), node("n2", 10), node("n3", 0)]) == {"n1": 7, "n2": 7, "n3": 6}
    assert [(t.source, t.target, t.count, t.keep) for t in plan([node("n1", 300), node("n2", 0)])] == [
        ("n1", "n2", 150, 150)
    ]


def test_nodes_that_are_even_give_nothing() -> None:
    assert plan([node("n1", 5), node("n2", 6), node("n3", 5)]) == []
    assert plan([node("n1", 50)]) == []
    assert plan([]) == []


def test_a_node_that_leaves_neither_gives_nor_takes() -> None:
    transfers = plan([node("n1", 10), node("n2", 90, leaving=True), node("n3", 0)])
    assert [(t.source, t.target, t.count) for t in transfers] == [("n1", "n3", 5)]


def test_a_node_without_an_address_gives_and_does_not_take() -> None:
    transfers = plan([node("n1", 12, url=False), node("n2", 0), node("n3", 0, url=False)])
    assert [(t.source, t.target, t.count) for t in transfers] == [("n1", "n2", 6)]
    assert plan([node("n1", 12, url=False), node("n2", 0, url=False)]) == []


NODES = st.lists(st.tuples(st.integers(0, 500), st.booleans(), st.booleans()), min_size=1, max_size=8).map(
    lambda rows: [node(f"n{n}", c, url=u, leaving=lv) for n, (c, u, lv) in enumerate(rows)]
)


@given(NODES)
def test_after_a_plan_all_who_could_take_have_the_same_and_nobody_both_gives_and_takes(
    nodes: list[NodeEntry],
) -> None:
    transfers = plan(nodes)
    assert not {t.source for t in transfers} & {t.target for t in transfers}
    after = {each.id: each.connections for each in nodes}
    by_id = {each.id: each for each in nodes}
    for each in transfers:
        assert each.count > 0
        assert not by_id[each.source].is_leaving
        assert by_id[each.target].url is not None
        assert not by_id[each.target].is_leaving
        after[each.source] -= each.count
        after[each.target] += each.count
    for each in transfers:
        assert after[each.source] == each.keep
    staying = [each for each in nodes if not each.is_leaving]
    takers = [after[each.id] for each in staying if each.url is not None]
    if takers:
        assert max(takers) - min(takers) <= 1
        # Who can only give has given what is above the others' share.
        assert all(after[each.id] <= min(takers) + 1 for each in staying)
