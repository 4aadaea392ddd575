"""The page for everybody: names, landmarks, contrast in both themes, sizes, and no width too small."""

from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import expect

from tests.page.conftest import OpenWindow
from tests.page.window import AWAY, NARROW, WIDE, Window
from tests.process import GatewayProcess

# One browser for all of them: it lives in a loop that they share.
pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMINATION: Final = (Path(__file__).parent / "examination.js").read_text()


async def examine(window: Window, where: str) -> list[str]:
    """Look at what is on the screen now."""
    # Colours on their way from one state to the next are neither.
    await window.page.evaluate(
        "() => Promise.all(document.getAnimations().map((one) => one.finished.catch(() => {})))"
    )
    found: list[str] = await window.page.evaluate(EXAMINATION)
    return [f"{where}: {fault}" for fault in found]


async def fill(window: Window) -> None:
    """Make a session with something of everything in it."""
    await window.start_session("Trip", "bob")
    await window.say("Hello, see https://example.org/")
    await window.say("and more")
    await expect(window.messages).to_have_count(2)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_every_view_is_named_ordered_and_legible(
    open_window: OpenWindow, gateway: GatewayProcess, theme: str, size: tuple[int, int]
) -> None:
    anna = await open_window(size, theme=theme)
    # Moving colours cannot be measured.
    await anna.page.emulate_media(
        reduced_motion="reduce", color_scheme="dark" if theme == "dark" else "light"
    )
    anna.tolerated.append(AWAY)
    await anna.load()
    await expect(anna.page.get_by_label("Your name")).to_be_visible()
    faults = await examine(anna, "door")
    await anna.arrive("anna")
    faults += await examine(anna, "empty list")
    await fill(anna)
    faults += await examine(anna, "conversation")
    for id in ("details", "account", "shortcuts", "new-session"):
        button = anna.page.locator(f"#{id}")
        if not await button.is_visible():
            await anna.page.locator("#back").click()
        await button.click()
        faults += await examine(anna, id)
        await anna.page.keyboard.press("Escape")
    await anna.load("0192f3a0-0000-7000-8000-000000000000")
    await expect(anna.page.get_by_text("You are not in this session")).to_be_visible()
    faults += await examine(anna, "missing")
    await anna.page.get_by_role("button", name="Show my sessions").click()
    faults += await examine(anna, "list")
    await anna.open_session("Trip")
    await gateway.kill()
    await expect(anna.page.locator("#connection-words")).to_have_text("Connection lost.")
    await anna.say("while it is away")
    await expect(anna.waiting).to_have_count(1)
    faults += await examine(anna, "connection lost")
    assert faults == []


async def test_the_landmarks_are_there(open_window: OpenWindow) -> None:
    anna = await open_window()
    await anna.arrive("anna")
    await anna.start_session("Trip")
    await expect(anna.page.get_by_role("main", name="Trip")).to_be_visible()
    await expect(anna.page.get_by_role("navigation", name="Sessions")).to_be_visible()
    await expect(anna.page.get_by_role("complementary", name="Sessions and account")).to_be_visible()
    await expect(anna.page.get_by_role("region", name="Messages", exact=True)).to_be_visible()
    await expect(anna.page.get_by_role("heading", level=1, name="Trip")).to_be_visible()
    await expect(anna.page.get_by_role("textbox", name="Message")).to_be_visible()
    await expect(anna.page.get_by_role("link", name="Trip")).to_have_attribute("aria-current", "page")


async def test_what_others_say_is_read_out_and_what_was_said_before_is_not(open_window: OpenWindow) -> None:
    anna, bob = await open_window(), await open_window()
    await anna.arrive("anna")
    await bob.arrive("bob")
    await anna.start_session("Trip", "bob")
    await anna.say("before")
    await bob.open_session("Trip")
    await expect(bob.message("before")).to_be_visible()
    await anna.say("after")
    log = bob.page.get_by_role("log", name="New messages")
    await expect(log).to_have_text("anna: after")
    assert await log.get_attribute("aria-live") == "polite"
    await expect(anna.page.get_by_role("log", name="New messages")).to_be_empty()


async def test_states_are_told_in_words_too(open_window: OpenWindow) -> None:
    anna = await open_window()
    await anna.arrive("anna")
    await anna.start_session("Trip")
    await anna.say("hello")
    item = anna.messages.filter(has_text="hello")
    await expect(item).to_contain_text("You:")
    await expect(item).to_contain_text("Sent")
    await expect(anna.page.locator("#connection-words")).to_have_attribute("role", "status")
    await expect(anna.page.locator("#typing-words")).to_have_attribute("role", "status")


@pytest.mark.parametrize("width", [320, 375, 719, 720, 1440])
async def test_nothing_is_wider_than_the_window(open_window: OpenWindow, width: int) -> None:
    anna = await open_window((width, 700))
    await anna.arrive("anna")
    await anna.start_session("A title that goes on and on, " * 6)
    await anna.say("https://example.org/" + "x" * 300)
    await anna.say("y" * 500)
    await expect(anna.messages).to_have_count(2)
    too_wide: list[str] = await anna.page.evaluate(
        """() => ["html", "#transcript", ".list"]
             .map((selector) => [selector, document.querySelector(selector)])
             .filter(([, one]) => one.clientWidth > 0 && one.scrollWidth > one.clientWidth)
             .map(([selector, one]) => `${selector} ${one.scrollWidth} > ${one.clientWidth}`)"""
    )
    assert too_wide == []
    is_narrow = width < 720
    await expect(anna.page.locator("#session-list")).to_be_visible(visible=not is_narrow)
    await expect(anna.page.locator("#back")).to_be_visible(visible=is_narrow)
    if is_narrow:
        await anna.page.locator("#back").click()
        await expect(anna.page.locator("#session-list")).to_be_visible()
        await expect(anna.page.locator("#open")).not_to_be_visible()


async def test_the_theme_follows_the_system_until_one_chooses(open_window: OpenWindow) -> None:
    anna = await open_window(theme="dark")
    await anna.arrive("anna")
    shade = "() => getComputedStyle(document.body).backgroundColor"
    dark = await anna.page.evaluate(shade)
    await anna.page.get_by_role("button", name="Switch to light").click()
    light = await anna.page.evaluate(shade)
    assert light != dark
    await anna.page.reload()
    await anna.connected()
    assert await anna.page.evaluate(shade) == light
    await anna.page.locator("#account").click()
    await anna.page.get_by_label("System").check()
    assert await anna.page.evaluate(shade) == dark


async def test_nothing_moves_for_those_who_asked_for_it(open_window: OpenWindow) -> None:
    anna = await open_window()
    await anna.page.emulate_media(reduced_motion="reduce")
    await anna.arrive("anna")
    await anna.start_session("Trip")
    await anna.say("hello")
    await expect(anna.messages).to_have_count(1)
    longest: float = await anna.page.evaluate(
        """() => Math.max(0, ...[...document.querySelectorAll("*")].flatMap((one) => {
             const style = getComputedStyle(one);
             return `${style.animationDuration},${style.transitionDuration}`.split(",").map(parseFloat);
           }))"""
    )
    assert longest < 0.001
