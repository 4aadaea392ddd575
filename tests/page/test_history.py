"""Long sessions: older messages come as one scrolls up, and what one reads stays where it is."""

import pytest
from playwright.async_api import expect

from tests.page.conftest import OpenWindow
from tests.page.talker import long_session, talker
from tests.page.window import NARROW, WIDE, Window
from tests.process import GatewayProcess
from tests.waiting import until

# One browser for all of them: it lives in a loop that they share.
pytestmark = pytest.mark.asyncio(loop_scope="session")

# The first row in sight and where it is, and what is loaded.
LOOK = """() => {
  const transcript = document.getElementById("transcript");
  const top = transcript.getBoundingClientRect().top;
  const rows = [...document.querySelectorAll("#chunks .message")];
  const row = rows.find((row) => row.getBoundingClientRect().bottom > top);
  return [Number(row.dataset.seq), row.getBoundingClientRect().top - top, rows.length];
}"""


async def position_of(window: Window, seq: int) -> float:
    """How far below the upper edge a message stands."""
    at: float = await window.page.evaluate(
        """(seq) => document.querySelector(`[data-seq="${seq}"]`).getBoundingClientRect().top
             - document.getElementById("transcript").getBoundingClientRect().top""",
        seq,
    )
    return at


async def scroll_to(window: Window, top: int) -> None:
    await window.page.evaluate("(top) => { document.getElementById('transcript').scrollTop = top; }", top)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_older_messages_come_in_pages_and_what_is_read_stays_in_place(
    gateway: GatewayProcess, open_window: OpenWindow, size: tuple[int, int]
) -> None:
    session = await long_session(gateway, "anna", 230)
    anna = await open_window(size)
    await anna.arrive("anna", session)
    await expect(anna.message("message 230")).to_be_in_viewport()
    assert len(await anna.transcript()) <= 60
    while (loaded := len(await anna.transcript())) < 230:
        await scroll_to(anna, 300)
        seq, before, _ = await anna.page.evaluate(LOOK)
        await until(lambda loaded=loaded: more_than(anna, loaded), what="an older page")
        assert abs(await position_of(anna, seq) - before) <= 2
    assert [seq for seq, _ in await anna.transcript()] == list(range(1, 231))
    await scroll_to(anna, 0)
    await expect(anna.message("message 1").first).to_be_in_viewport()


async def more_than(window: Window, number: int) -> bool:
    return await window.messages.count() > number


async def test_what_arrives_while_one_reads_further_up_is_counted_on_a_pill(
    gateway: GatewayProcess, open_window: OpenWindow
) -> None:
    session = await long_session(gateway, "anna", 60, "bob")
    anna = await open_window()
    await anna.arrive("anna", session)
    await expect(anna.message("message 60")).to_be_in_viewport()
    await expect(anna.page.locator("#pill")).not_to_be_visible()
    await scroll_to(anna, 200)
    seq, before, _ = await anna.page.evaluate(LOOK)
    await expect(anna.page.locator("#pill")).to_be_visible()

    async with talker(gateway, "bob") as bob:
        await bob.ask("attach", "attached", session=session)
        for text in ("one", "two", "three"):
            await bob.ask("send", "ack", session=session, content=text)
    await expect(anna.page.locator("#pill")).to_have_text("3 new messages")
    await expect(anna.row("Long").locator(".row-unread")).to_have_text("3")
    assert abs(await position_of(anna, seq) - before) <= 2

    await anna.page.locator("#pill").click()
    await expect(anna.message("three")).to_be_in_viewport()
    await expect(anna.page.locator("#pill")).not_to_be_visible()
    await expect(anna.row("Long").locator(".row-unread")).not_to_be_visible()


async def test_one_opens_a_session_where_one_stopped_reading(
    gateway: GatewayProcess, open_window: OpenWindow
) -> None:
    session = await long_session(gateway, "anna", 80, "bob")
    async with talker(gateway, "bob") as earlier:
        await earlier.ask("attach", "attached", session=session)
        await earlier.ask("read", "read", session=session, seq=40)
    bob = await open_window()
    await bob.arrive("bob", session)
    await expect(bob.page.locator(".new-line")).to_be_in_viewport()
    await expect(bob.page.locator(".new-line + .message")).to_have_attribute("data-seq", "41")
    await expect(bob.page.locator("#pill")).to_have_text("40 new messages")


async def test_rows_out_of_sight_are_not_kept_while_the_newest_are_followed(
    gateway: GatewayProcess, open_window: OpenWindow
) -> None:
    session = await long_session(gateway, "anna", 700)
    anna = await open_window()
    await anna.arrive("anna", session)
    for _ in range(20):
        loaded = await anna.messages.count()
        if loaded == 700:
            break
        await scroll_to(anna, 200)
        await until(lambda loaded=loaded: more_than(anna, loaded), what="an older page")
    assert await anna.messages.count() == 700
    await anna.say("the newest")
    await expect(anna.message("the newest")).to_be_in_viewport()
    await until(lambda: fewer_than(anna, 400), what="rows cut back")
    seqs = [seq for seq, _ in await anna.transcript()]
    assert seqs == list(range(701 - len(seqs) + 1, 702))
    await scroll_to(anna, 200)
    await until(lambda: more_than(anna, len(seqs)), what="they are loaded again")
    again = [seq for seq, _ in await anna.transcript()]
    assert again == list(range(701 - len(again) + 1, 702))


async def fewer_than(window: Window, number: int) -> bool:
    return await window.messages.count() < number


async def test_a_page_that_cannot_be_loaded_says_so_and_is_asked_for_again(
    gateway: GatewayProcess, open_window: OpenWindow
) -> None:
    session = await long_session(gateway, "anna", 80)
    anna = await open_window()
    await anna.arrive("anna", session)
    await expect(anna.message("message 80")).to_be_in_viewport()
    await anna.page.evaluate(
        """() => {
             const send = WebSocket.prototype.send;
             window.failing = true;
             WebSocket.prototype.send = function (text) {
               // An unanswerable question: the gateway refuses it.
               const isAsked = window.failing && text.includes('"history"');
               send.call(this, isAsked ? text.replace('"limit":50', '"limit":9999') : text);
             };
           }"""
    )
    await scroll_to(anna, 100)
    await expect(anna.page.locator("#older")).to_contain_text("Messages could not be loaded.")
    await anna.page.evaluate("() => { window.failing = false; }")
    await anna.page.get_by_role("button", name="Try again").click()
    await expect(anna.messages).to_have_count(80)
    await expect(anna.page.locator("#older")).to_be_empty()
