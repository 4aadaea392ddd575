"""The page without a pointer: everything is reached, seen to be reached, and done by keys."""

import pytest
from playwright.async_api import expect

from tests.page.conftest import OpenWindow
from tests.page.window import NARROW, Window

# One browser for all of them: it lives in a loop that they share.
pytestmark = pytest.mark.asyncio(loop_scope="session")

# What has the focus, whether it can be seen, and whether it can be seen to have the focus.
FOCUS = """() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const field = element.closest(".composer");
  const fieldRing = field !== null && getComputedStyle(field).boxShadow !== "none";
  return {
    id: element.id || element.className || element.tagName,
    inSight: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight,
    marked: ring || fieldRing,
    isBody: element === document.body,
  };
}"""


async def test_a_conversation_by_keys_alone(open_window: OpenWindow) -> None:
    anna = await open_window()
    keys = anna.page.keyboard
    await anna.load()
    await expect(anna.page.get_by_label("Your name")).to_be_focused()
    await keys.type("anna")
    await keys.press("Enter")
    await anna.connected()

    await keys.press("Alt+n")
    await expect(anna.page.get_by_role("dialog").get_by_label("Title")).to_be_focused()
    await keys.type("First")
    await keys.press("Tab")
    await keys.type("bob")
    await keys.press("Enter")
    await expect(anna.title).to_have_text("First")
    await expect(anna.composer).to_be_focused()
    await keys.type("one line")
    await keys.press("Shift+Enter")
    await keys.type("another")
    await keys.press("Enter")
    await expect(anna.messages).to_have_count(1)
    assert await anna.transcript() == [(1, "one line\nanother")]
    await expect(anna.composer).to_be_focused()

    await keys.press("Alt+n")
    await keys.type("Second")
    await keys.press("Enter")
    await expect(anna.title).to_have_text("Second")
    await keys.press("Alt+ArrowDown")
    await expect(anna.title).to_have_text("First")
    await keys.press("Alt+ArrowUp")
    await expect(anna.title).to_have_text("Second")

    await keys.press("Alt+l")
    await expect(anna.row("Second")).to_be_focused()
    await keys.press("ArrowDown")
    await expect(anna.row("First")).to_be_focused()
    await keys.press("Enter")
    await expect(anna.title).to_have_text("First")
    await expect(anna.composer).to_be_focused()

    await keys.press("Alt+d")
    dialog = anna.page.get_by_role("dialog", name="Session details")
    await expect(dialog.get_by_label("Title")).to_be_focused()
    await keys.press("Control+a")
    await keys.type("Renamed")
    await keys.press("Enter")
    await expect(anna.title).to_have_text("Renamed")
    await expect(dialog).not_to_be_visible()
    await expect(anna.composer).to_be_focused()

    await keys.press("Alt+i")
    await expect(dialog.get_by_label("Invite by name")).to_be_focused()
    await keys.type("carol")
    await keys.press("Enter")
    await expect(dialog.locator("#people")).to_contain_text("carol")
    await keys.press("Escape")
    await expect(anna.composer).to_be_focused()


async def test_the_shortcuts_are_shown_and_are_those_that_work(open_window: OpenWindow) -> None:
    anna = await open_window()
    await anna.arrive("anna")
    await anna.page.keyboard.press("Control+/")
    dialog = anna.page.get_by_role("dialog", name="Keyboard shortcuts")
    await expect(dialog).to_be_visible()
    shown = await dialog.locator("dt").all_inner_texts()
    assert ["Alt", "N"] in [text.split() for text in shown]
    assert len(shown) == await dialog.locator("dd").count()
    # Behind a dialog they do nothing.
    await anna.page.keyboard.press("Alt+n")
    await expect(anna.page.get_by_role("dialog", name="New session")).not_to_be_visible()
    await anna.page.keyboard.press("Escape")
    await expect(dialog).not_to_be_visible()


async def test_the_focus_is_always_seen_and_goes_everywhere(open_window: OpenWindow) -> None:
    anna = await open_window()
    await anna.arrive("anna")
    for title in ("First", "Second"):
        await anna.start_session(title)
        await anna.say("hello, see https://example.org/")
        await expect(anna.messages).to_have_count(1)
    reached = await _walk(anna, 30)
    for id in ("new-session", "account", "theme", "shortcuts", "invite", "copy-link", "details", "composer"):
        assert id in reached, reached
    assert reached.index("new-session") < reached.index("account") < reached.index("invite")
    assert reached.index("invite") < reached.index("transcript") < reached.index("composer")
    assert "row" in reached


async def _walk(window: Window, steps: int) -> list[str]:
    """Press Tab so many times from the top; every stop must be in sight and marked."""
    await window.page.locator("#skip").focus()
    reached: list[str] = []
    for _ in range(steps):
        await window.page.keyboard.press("Tab")
        stop = await window.page.evaluate(FOCUS)
        if stop["isBody"]:
            continue
        assert stop["inSight"], stop
        assert stop["marked"], stop
        reached.append(stop["id"])
    return reached


async def test_the_first_stop_skips_to_the_message_field(open_window: OpenWindow) -> None:
    anna = await open_window()
    await anna.arrive("anna")
    session = await anna.start_session("First")
    await anna.page.locator("#new-session").focus()
    await anna.page.keyboard.press("Shift+Tab")
    await expect(anna.page.get_by_text("Skip to the message field")).to_be_focused()
    await anna.page.keyboard.press("Enter")
    await expect(anna.composer).to_be_focused()
    assert anna.page.url.endswith(f"#{session}")


async def test_a_dialog_gives_the_focus_back_to_what_opened_it(open_window: OpenWindow) -> None:
    anna = await open_window()
    await anna.arrive("anna")
    await anna.start_session("First")
    for id in ("details", "invite", "account", "shortcuts", "new-session"):
        button = anna.page.locator(f"#{id}")
        await button.focus()
        await anna.page.keyboard.press("Enter")
        await expect(anna.page.locator("dialog[open]")).to_have_count(1)
        await anna.page.keyboard.press("Escape")
        await expect(button).to_be_focused()


async def test_on_a_phone_back_and_forth_keep_the_focus_in_sight(open_window: OpenWindow) -> None:
    anna = await open_window(NARROW, touch=True)
    await anna.arrive("anna")
    await anna.start_session("First")
    # No keyboard jumps up unasked.
    await expect(anna.title).to_be_focused()
    await anna.page.locator("#back").click()
    await expect(anna.row("First")).to_be_focused()
    await anna.page.keyboard.press("Enter")
    await expect(anna.title).to_be_focused()
    await anna.page.go_back()
    await expect(anna.row("First")).to_be_visible()
