"""The page over three nodes: people on different ones talk as if there were one, and one may die."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from os import kill

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from loadtest.servers.account import leave
from tests.page.window import AWAY, Window
from tests.servers.cluster_process import ClusterProcess
from tests.waiting import until

# One browser for all of them: it lives in a loop that they share.
pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

OpenAt = Callable[[str], Awaitable[Window]]


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterProcess]:
    folder = tmp_path_factory.mktemp("cluster")
    async with ClusterProcess(folder, "--discard") as running:
        yield running
    leave(folder / "postgres")


@pytest_asyncio.fixture(loop_scope="session")
async def open_at(browser: Browser) -> AsyncIterator[OpenAt]:
    """Opens windows at any address, that share nothing."""
    opened: list[Window] = []

    async def open_one(url: str) -> Window:
        context = await browser.new_context(locale="en-GB")
        window = await Window.open(context, url)
        opened.append(window)
        return window

    yield open_one
    faults = [fault for window in opened for fault in window.faults]
    for window in opened:
        await window.page.context.close()
    assert not faults


async def connected(cluster: ClusterProcess) -> list[int]:
    """How many WebSockets each node has; -1 where it does not answer."""

    async def of(url: str) -> int:
        try:
            text = (await http.get(f"{url}/metrics")).text
        except httpx.TransportError:
            return -1
        found = re.search(r"^gateway_connections(?:\{[^}]*\})? (\d+)", text, flags=re.M)
        assert found is not None
        return int(found[1])

    async with httpx.AsyncClient(trust_env=False) as http:
        return list(await asyncio.gather(*(of(url) for url in cluster.ops_urls)))


async def talk(anna: Window, bob: Window) -> None:
    """A message each way, typing that is seen, and who is here."""
    before = await anna.messages.count()
    await anna.say(f"Hello Bob {before}")
    await expect(bob.message(f"Hello Bob {before}")).to_be_visible()
    await bob.composer.press_sequentially("Wait")
    await expect(anna.page.locator("#typing-words")).to_have_text("bob is typing")
    await bob.composer.fill(f"Hello Anna {before}")
    await bob.composer.press("Enter")
    await expect(anna.message(f"Hello Anna {before}")).to_be_visible()
    await expect(anna.message(f"Hello Bob {before}").locator("[data-state=read]")).to_be_visible()
    await expect(anna.page.locator("#presence")).to_have_text("bob is here", timeout=20_000)
    await expect(bob.page.locator("#presence")).to_have_text("anna is here", timeout=20_000)


async def test_two_people_on_two_nodes_talk_and_see_each_other(
    cluster: ClusterProcess, open_at: OpenAt
) -> None:
    anna, bob = await open_at(cluster.node_urls[0]), await open_at(cluster.node_urls[1])
    await bob.come_in("bob")
    await anna.come_in("anna")
    assert await connected(cluster) == [1, 1, 0]
    # The list on another node hears of it too.
    await anna.start_session("Trip", "bob")
    await bob.open_session("Trip")
    await talk(anna, bob)
    assert await anna.transcript() == await bob.transcript()


async def test_a_node_is_killed_and_both_go_on_over_the_balancer(
    cluster: ClusterProcess, open_at: OpenAt
) -> None:
    anna = await open_at(cluster.url)
    anna.tolerated.append(AWAY)
    await anna.come_in("anna")
    counts = await connected(cluster)
    hers = counts.index(1)
    session = await anna.start_session("Trip", "bob")
    # Somewhere else than she is: the balancer gives the next connection to whoever has least.
    bob = await open_at(cluster.url)
    bob.tolerated.append(AWAY)
    await bob.come_in("bob", session)
    await until(lambda: is_elsewhere(bob, cluster, hers), within=30, what="bob on another node")
    await talk(anna, bob)

    kill(cluster.node_pids[hers], signal.SIGKILL)
    # What is written before the page has noticed is there in the end too.
    await anna.say("Written into the gap")
    await expect(bob.message("Written into the gap")).to_be_visible(timeout=30_000)
    await expect(anna.waiting).to_have_count(0)
    await anna.connected()
    await talk(anna, bob)
    transcript = await anna.transcript()
    assert [seq for seq, _ in transcript] == list(range(1, 6))
    assert transcript == await bob.transcript()
    assert sorted(await connected(cluster))[0] == -1


async def is_elsewhere(window: Window, cluster: ClusterProcess, node: int) -> bool:
    """Load the page again until its connection is on another node than that one."""
    if (await connected(cluster))[node] == 1:
        return True
    await window.page.reload()
    await window.connected()
    return False
