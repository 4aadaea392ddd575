"""The small form of `python -m loadtest killed`: a node dies with 200 clients; three are left for them."""

import asyncio

import pytest

from loadtest.ground import servers
from loadtest.killed import COUNTING, NODES, Curve, Look, Rates, kill

CLIENTS = 200
RATES = Rates(upgrade=20, resume=20)


@pytest.mark.timeout(120)
def test_after_a_node_was_killed_everybody_resumes_at_the_rate_of_the_others() -> None:
    with servers(settings=COUNTING) as found:
        killed = asyncio.run(kill(found, CLIENTS, RATES))
    assert killed.faults == []
    # The queue is served as long as there is one: it is not at the end, when only late ones are to come.
    curve = killed.together("resume")
    busy = [n for n, _ in enumerate(curve) if sum(curve[: n + 1]) <= 0.9 * CLIENTS]
    assert len(busy) >= 2, curve
    assert min(curve[n] for n in busy) >= 0.7 * RATES.resume * (NODES - 1), curve
    # Many were put off, since so few may come; and none of them was refused again and again.
    assert killed.outcome.refused + killed.outcome.put_off <= 3 * CLIENTS
    # A session is read once for each who comes back, at most: together with others, where they come together.
    rights = [calls for calls, query in killed.statements if "session.*, member.role" in query]
    assert 0 < sum(rights) <= CLIENTS
    assert not [query for _, query in killed.statements if "page.after" in query]  # no messages


def _curve(*looks: tuple[float, int]) -> Curve:
    curve = Curve()
    for at, count in looks:
        curve.add(Look(at, at + 0.02, {"upgrade": count}))
    return curve


def test_more_than_the_rate_within_a_second_is_seen_wherever_it_begins() -> None:
    # 30 in the second half of one second and 30 in the first half of the next.
    halves = _curve((0.0, 0), (0.5, 0), (0.9, 30), (1.4, 60), (1.9, 60))
    assert halves.most("upgrade") == 60
    assert halves.by_second("upgrade", 0.01, 1) == [pytest.approx(36, abs=1)]


def test_what_lies_a_second_apart_is_not_counted_together() -> None:
    # The one look could have been made before the first 20, and the other after the last: more than a second.
    assert _curve((0.0, 0), (0.5, 20), (0.99, 40), (1.5, 40)).most("upgrade") == 20
