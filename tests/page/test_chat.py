"""What people do with the page: two or three of them, each at a window of their own."""

import asyncio
import re

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.page.conftest import OpenWindow
from tests.page.talker import session_of
from tests.page.window import MISSING, Window
from tests.process import GatewayProcess

# One browser for all of them: it lives in a loop that they share.
pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def two(open_window: OpenWindow, gateway: GatewayProcess) -> tuple[Window, Window, str]:
    """Anna and Bob with a session open in both windows."""
    session = await session_of(gateway, "anna", "Trip", "bob")
    anna, bob = await open_window(), await open_window()
    await asyncio.gather(anna.arrive("anna", session), bob.arrive("bob", session))
    await expect(anna.title).to_have_text("Trip")
    await expect(bob.title).to_have_text("Trip")
    return anna, bob, session


async def test_two_windows_chat_both_ways(two: tuple[Window, Window, str]) -> None:
    anna, bob, _ = two
    await anna.say("Hello Bob")
    await expect(bob.message("Hello Bob")).to_be_visible()
    await bob.say("Hello Anna\nhow are you?")
    await expect(anna.message("how are you?")).to_be_visible()
    expected = [(1, "Hello Bob"), (2, "Hello Anna\nhow are you?")]
    assert await anna.transcript() == expected
    assert await bob.transcript() == expected
    assert await anna.waiting.count() == 0


async def test_a_message_is_sent_and_then_read(two: tuple[Window, Window, str]) -> None:
    anna, bob, _ = two
    await anna.say("Are you there?")
    await expect(anna.message("Are you there?").locator("[data-state=read]")).to_be_visible()
    await expect(anna.page.locator(".receipt")).to_have_text("Read")
    await bob.say("I am")
    await expect(anna.page.locator(".receipt")).to_have_count(0)


async def test_read_markers_are_there_again_after_a_reload(two: tuple[Window, Window, str]) -> None:
    anna, _, _ = two
    await anna.say("Are you there?")
    await expect(anna.page.locator(".receipt")).to_have_text("Read")
    await anna.page.reload()
    await expect(anna.page.locator(".receipt")).to_have_text("Read")


async def test_whoever_types_is_seen_typing_until_they_send(two: tuple[Window, Window, str]) -> None:
    anna, bob, _ = two
    await bob.composer.press_sequentially("Wait")
    await expect(anna.page.locator("#typing-words")).to_have_text("bob is typing")
    await bob.composer.press("Enter")
    await expect(anna.message("Wait")).to_be_visible()
    await expect(anna.page.locator("#typing")).not_to_be_visible()


async def test_it_is_seen_who_is_here(two: tuple[Window, Window, str], open_window: OpenWindow) -> None:
    anna, bob, _ = two
    await expect(anna.page.locator("#presence")).to_have_text("bob is here")
    await expect(bob.page.locator("#presence")).to_have_text("anna is here")
    await bob.page.close()
    await expect(anna.page.locator("#presence")).to_have_text("Only you are here · 2 people", timeout=15_000)


async def test_an_invited_person_finds_the_session_in_the_list(open_window: OpenWindow) -> None:
    anna, bob = await open_window(), await open_window()
    await anna.come_in("anna")
    await bob.come_in("bob")
    await expect(bob.page.get_by_text("No sessions yet")).to_be_visible()
    await anna.start_session("Trip", "bob")
    await expect(bob.row("Trip")).to_be_visible()
    await expect(bob.toasts).to_contain_text("You are in “Trip” now.")
    await anna.say("one")
    await anna.say("two")
    await expect(bob.row("Trip").locator(".row-unread")).to_have_text("2")
    await expect(bob.row("Trip").locator(".row-preview")).to_have_text("two")
    assert re.match(r"\(2\) ", await bob.page.title())
    await bob.toasts.get_by_role("button", name="Open").click()
    await expect(bob.message("two")).to_be_visible()
    await expect(bob.row("Trip").locator(".row-unread")).not_to_be_visible()


async def test_somebody_is_invited_later_by_name(
    two: tuple[Window, Window, str], open_window: OpenWindow
) -> None:
    anna, _, session = two
    carol = await open_window()
    await carol.arrive("carol", session)
    await expect(carol.page.get_by_text("You are not in this session")).to_be_visible()
    await anna.say("before")
    await anna.page.get_by_role("button", name="Invite somebody").click()
    await expect(anna.page.get_by_label("Invite by name")).to_be_focused()
    await anna.page.keyboard.type("carol")
    await anna.page.keyboard.press("Enter")
    await expect(anna.page.locator("#people")).to_contain_text("carol")
    # The link that was for members only opens by itself.
    await expect(carol.title).to_have_text("Trip")
    await expect(carol.message("before")).to_be_visible()


async def test_a_reader_reads_and_cannot_write(
    two: tuple[Window, Window, str], open_window: OpenWindow
) -> None:
    anna, _, session = two
    dora = await open_window()
    await dora.arrive("dora")
    await anna.page.get_by_role("button", name="Session details").click()
    await anna.page.get_by_label("Invite by name").fill("dora")
    await anna.page.get_by_label("May read only").check()
    await anna.page.locator("#invite-form").get_by_role("button", name="Invite").click()
    await expect(anna.page.locator("#people")).to_contain_text("may read")
    await anna.page.keyboard.press("Escape")
    await dora.load(session)
    await expect(dora.page.locator("#closed-note")).to_contain_text("You may read here")
    await expect(dora.composer).not_to_be_visible()
    await anna.say("for all")
    await expect(dora.message("for all")).to_be_visible()


async def test_a_session_is_renamed_for_everybody(two: tuple[Window, Window, str]) -> None:
    anna, bob, _ = two
    await bob.page.get_by_role("button", name="Session details").click()
    await bob.page.get_by_role("dialog").get_by_label("Title").fill("Trip to Göttingen")
    await bob.page.get_by_role("button", name="Save").click()
    await expect(anna.title).to_have_text("Trip to Göttingen")
    await expect(anna.row("Trip to Göttingen")).to_be_visible()


async def test_a_session_goes_to_the_archive_and_comes_back(two: tuple[Window, Window, str]) -> None:
    anna, bob, _ = two
    await anna.page.get_by_role("button", name="Session details").click()
    await anna.page.get_by_role("button", name="Archive").click()
    await expect(anna.page.locator("#archive-list .row")).to_have_count(1)
    await expect(bob.page.locator("#archive-list .row")).to_have_count(1)
    await anna.toasts.get_by_role("button", name="Undo").click()
    await expect(anna.page.locator("#session-list .row")).to_have_count(1)
    await expect(bob.page.locator("#session-list .row")).to_have_count(1)


async def test_an_ended_session_can_be_read_until_one_leaves_it(two: tuple[Window, Window, str]) -> None:
    anna, bob, _ = two
    await bob.say("last words")
    await expect(anna.message("last words")).to_be_visible()
    await anna.page.get_by_role("button", name="Session details").click()
    await anna.page.get_by_role("button", name="End for everybody").click()
    await anna.page.get_by_role("button", name="End session").click()
    await expect(bob.page.locator("#closed-note")).to_contain_text("This session has ended")
    await expect(bob.message("last words")).to_be_visible()
    await expect(bob.row("Trip")).to_have_count(0)


async def test_a_removed_member_is_told_and_sees_it_no_more(two: tuple[Window, Window, str]) -> None:
    anna, bob, _ = two
    bob.tolerated.append(MISSING)
    await anna.page.get_by_role("button", name="Session details").click()
    await anna.page.get_by_role("button", name="Remove bob").click()
    await anna.page.get_by_role("button", name="Remove", exact=True).click()
    await expect(bob.toasts.last).to_contain_text("You are no longer in “Trip”.")
    await expect(bob.row("Trip")).to_have_count(0)
    await expect(bob.title).not_to_be_visible()


async def test_a_member_leaves(two: tuple[Window, Window, str]) -> None:
    anna, bob, _ = two
    await bob.page.get_by_role("button", name="Session details").click()
    await bob.page.get_by_role("button", name="Leave session").click()
    await bob.page.get_by_role("button", name="Leave", exact=True).click()
    await expect(bob.row("Trip")).to_have_count(0)
    await anna.page.get_by_role("button", name="Session details").click()
    await expect(anna.page.locator("#people .person")).to_have_count(1)


async def test_what_people_write_is_text_and_nothing_else(two: tuple[Window, Window, str]) -> None:
    anna, bob, _ = two
    nasty = '<img src=x onerror="document.title=1"><b>bold</b> &amp; javascript:alert(1) data:text/html,x'
    await anna.say(nasty)
    await expect(bob.message("bold")).to_be_visible()
    assert (await bob.transcript())[-1] == (1, nasty)
    assert await bob.messages.locator("img, b, a").count() == 0


async def test_links_are_links_and_their_punctuation_is_not(two: tuple[Window, Window, str]) -> None:
    anna, bob, _ = two
    await anna.say(
        "See https://example.org/a_(b)?c=1, (and http://example.org/d). https://user@evil.example/x"
    )
    links = bob.messages.locator("a")
    await expect(links).to_have_count(2)
    assert await links.evaluate_all("all => all.map((a) => a.getAttribute('href'))") == [
        "https://example.org/a_(b)?c=1",
        "http://example.org/d",
    ]
    assert await links.first.get_attribute("rel") == "noopener noreferrer nofollow"
    assert await links.first.get_attribute("target") == "_blank"


async def test_a_link_to_a_session_is_copied(two: tuple[Window, Window, str]) -> None:
    anna, _, session = two
    await anna.page.get_by_role("button", name="Copy a link to this session").click()
    await expect(anna.toasts).to_contain_text("Link copied")
    copied = await anna.page.evaluate("() => navigator.clipboard.readText()")
    assert copied == f"{anna.url}/#{session}"


async def test_a_message_that_is_too_long_is_not_sent(two: tuple[Window, Window, str]) -> None:
    anna, _, _ = two
    await anna.composer.fill("ä" * 32_769)
    await expect(anna.page.locator("#composer-note")).to_have_text("Too long by 2 bytes. Send it in parts.")
    await expect(anna.page.locator("#send")).to_be_disabled()
    await anna.composer.press("Enter")
    await expect(anna.composer).not_to_be_empty()
    await anna.composer.fill("ä" * 32_768)
    await anna.composer.press("Enter")
    await expect(anna.messages).to_have_count(1)


async def test_a_name_with_other_letters_is_offered_without_them(open_window: OpenWindow) -> None:
    window = await open_window()
    await window.load()
    await window.page.get_by_label("Your name").fill("Anna Müller")
    await window.page.keyboard.press("Enter")
    await expect(window.page.get_by_label("Your name")).to_have_value("Anna-Muller")
    await expect(window.page.get_by_role("alert")).to_contain_text("Anna-Muller")
    await window.page.keyboard.press("Enter")
    await expect(window.page.locator("#account")).to_contain_text("Anna-Muller")


async def test_two_windows_of_one_browser_are_two_people(open_window: OpenWindow) -> None:
    anna = await open_window()
    await anna.come_in("anna")
    bob = await Window.open(anna.page.context, anna.url)
    await bob.come_in("bob")
    await anna.page.reload()
    await expect(anna.page.locator("#account")).to_contain_text("anna")
    await expect(bob.page.locator("#account")).to_contain_text("bob")
    assert bob.faults == []


async def test_signing_out_forgets_the_name(open_window: OpenWindow) -> None:
    anna = await open_window()
    await anna.come_in("anna")
    await anna.page.locator("#account").click()
    await anna.page.get_by_role("button", name="Sign out").click()
    await expect(anna.page.get_by_label("Your name")).to_be_visible()
    await expect(anna.page.get_by_label("Your name")).to_have_value("")
