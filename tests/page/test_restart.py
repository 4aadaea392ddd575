"""The gateway is killed while people write. They go on, and nothing is lost, twice or out of order."""

import asyncio
import random
import re
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from playwright.async_api import Route, WebSocketRoute, expect

from tests.page.conftest import OpenWindow
from tests.page.talker import session_of
from tests.page.window import AWAY, Window
from tests.process import GatewayProcess
from tests.waiting import until

# One browser for all of them: it lives in a loop that they share.
pytestmark = pytest.mark.asyncio(loop_scope="session")

MESSAGES = 200
KILLS = 3
# Written without the test looking: a kill comes between any two of them.
HANDFUL = 5


def stored(database: Path, session: str) -> list[tuple[int, str, str]]:
    """Seq, sender and text of everything the database holds of the session, read past the gateway."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT seq, sender, content FROM messages WHERE session_id = ? ORDER BY seq", (session,)
        )
        return [(seq, sender, content) for seq, sender, content in rows]
    finally:
        connection.close()


@pytest.mark.timeout(180)
async def test_four_hundred_messages_survive_three_kills(
    gateway: GatewayProcess, open_window: OpenWindow
) -> None:
    moments = random.Random(20_251_121)  # noqa: S311 - chance that can be repeated
    anna, bob = await open_window(), await open_window()
    for window in (anna, bob):
        window.tolerated.append(AWAY)
    session = await session_of(gateway, "anna", "Storm", "bob")
    await asyncio.gather(anna.arrive("anna", session), bob.arrive("bob", session))
    written: Counter[str] = Counter()

    async def write(window: Window, name: str) -> None:
        for start in range(0, MESSAGES, HANDFUL):
            await window.say_quickly([f"{name} {number}" for number in range(start, start + HANDFUL)])
            written[name] += HANDFUL

    async def kill_and_start() -> None:
        for moment in sorted(moments.sample(range(20, 2 * MESSAGES - 20), KILLS)):
            await until(lambda moment=moment: written.total() >= moment, within=90, what=f"message {moment}")
            await gateway.restart()

    await asyncio.gather(write(anna, "anna"), write(bob, "bob"), kill_and_start())

    for window in (anna, bob):
        await expect(window.messages).to_have_count(2 * MESSAGES, timeout=60_000)
        await expect(window.waiting).to_have_count(0)
        await window.connected()
    rows = stored(gateway.database, session)
    assert [seq for seq, _, _ in rows] == list(range(1, 2 * MESSAGES + 1))
    for name in ("anna", "bob"):
        texts = [text for _, sender, text in rows if sender == name]
        assert texts == [f"{name} {number}" for number in range(MESSAGES)]
    shown = [(seq, text) for seq, _, text in rows]
    assert await anna.transcript() == shown
    assert await bob.transcript() == shown


async def test_a_lost_connection_is_told_in_plain_words_with_a_countdown(
    gateway: GatewayProcess, open_window: OpenWindow
) -> None:
    anna = await open_window()
    anna.tolerated.append(AWAY)
    await anna.arrive("anna")
    await anna.start_session("Trip")
    bar = anna.page.locator("#connection")
    await expect(bar).not_to_be_visible()

    await gateway.kill()
    await expect(anna.page.locator("#connection-words")).to_have_text("Connection lost.")
    await expect(anna.page.locator("#connection-countdown")).to_have_text(
        re.compile(r"^Next try in \d+ s\.$")
    )
    await expect(anna.page.locator("#account")).to_contain_text("Reconnecting")
    await anna.say("Written while it was away")
    await expect(anna.waiting.locator("[data-state=sending]")).to_be_visible()
    # The later tries wait for seconds: then the number goes down before one's eyes.
    countdown = anna.page.locator("#connection-countdown")
    seen: set[str] = set()

    async def counts() -> bool:
        seen.add(await countdown.inner_text())
        return len([text for text in seen if text.startswith("Next try")]) >= 2

    await until(counts, within=30, what="a countdown")

    await gateway.start()
    await anna.page.get_by_role("button", name="Try now").click(timeout=20_000)
    await expect(bar).not_to_be_visible()
    await expect(anna.message("Written while it was away")).to_be_visible()
    await expect(anna.waiting).to_have_count(0)
    await expect(anna.composer).to_be_focused()


async def test_drafts_stay_where_they_were_written(open_window: OpenWindow) -> None:
    anna = await open_window()
    await anna.arrive("anna")
    await anna.start_session("One")
    await anna.composer.fill("half a thought")
    await anna.start_session("Two")
    await expect(anna.composer).to_have_value("")
    await expect(anna.row("One")).to_contain_text("Draft: half a thought")
    await anna.composer.fill("another")
    await anna.page.reload()
    await expect(anna.composer).to_have_value("another")
    await anna.open_session("One")
    await expect(anna.composer).to_have_value("half a thought")
    await anna.composer.press("Enter")
    await expect(anna.message("half a thought")).to_be_visible()
    await anna.page.reload()
    await expect(anna.message("half a thought")).to_be_visible()
    await expect(anna.composer).to_have_value("")


async def test_messages_whose_acks_were_lost_are_there_once_after_a_reload(
    gateway: GatewayProcess, open_window: OpenWindow
) -> None:
    anna = await open_window()
    is_deaf = False

    def swallow(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def hear(message: str | bytes) -> None:
            if not is_deaf:
                route.send(message)

        server.on_message(hear)

    await anna.page.route_web_socket(re.compile("/ws$"), swallow)
    await anna.arrive("anna")
    session = await anna.start_session("Trip")
    await anna.say("first")
    await expect(anna.message("first")).to_be_visible()

    is_deaf = True
    for text in ("second", "third"):
        await anna.say(text)
    await expect(anna.waiting).to_have_count(2)
    await until(lambda: len(stored(gateway.database, session)) == 2, what="the second message is committed")

    is_deaf = False
    await anna.page.reload()
    await expect(anna.messages).to_have_count(3)
    await expect(anna.waiting).to_have_count(0)
    assert await anna.transcript() == [(1, "first"), (2, "second"), (3, "third")]
    assert [text for _, _, text in stored(gateway.database, session)] == ["first", "second", "third"]


async def test_a_page_that_is_loaded_before_the_gateway_answers_waits_for_it(
    gateway: GatewayProcess, open_window: OpenWindow
) -> None:
    anna = await open_window()
    anna.tolerated.append(AWAY)
    refused = 0

    async def refuse(route: Route) -> None:
        nonlocal refused
        refused += 1
        await route.abort("connectionrefused")

    await anna.page.route("**/api/v1/config", refuse)
    await anna.load()
    await expect(anna.page.locator("#door-trouble")).to_contain_text("The gateway cannot be reached")
    await anna.page.unroute("**/api/v1/config")
    await expect(anna.page.get_by_label("Your name")).to_be_visible()
    assert refused >= 1
