"""The list of sessions when there are many, and who is signed in when tokens come to nothing."""

import pytest
from playwright.async_api import expect

from tests.page.conftest import OpenWindow
from tests.page.talker import talker
from tests.page.window import REFUSED
from tests.process import GatewayProcess

# One browser for all of them: it lives in a loop that they share.
pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_long_list_comes_in_pages_and_every_session_of_it_opens(
    gateway: GatewayProcess, open_window: OpenWindow
) -> None:
    async with talker(gateway, "anna") as voice:
        for number in range(60):
            await voice.ask("open", "attached", title=f"Session {number:02}", persistent=True)
    anna = await open_window()
    await anna.arrive("anna")
    rows = anna.page.locator("#session-list .row")
    await expect(rows).to_have_count(50)
    await anna.page.get_by_role("button", name="Show older sessions").click()
    await expect(rows).to_have_count(60)
    await expect(anna.page.get_by_role("button", name="Show older sessions")).not_to_be_visible()
    # Beyond those that are followed: it is followed now, and another one no more.
    await anna.open_session("Session 00")
    await anna.say("hello")
    await expect(anna.messages).to_have_count(1)
    await expect(rows.first).to_contain_text("Session 00")
    await expect(rows).to_have_count(60)
    await anna.open_session("Session 10")
    await anna.open_session("Session 00")
    await anna.say("again")
    await expect(anna.messages).to_have_count(2)
    assert await anna.transcript() == [(1, "hello"), (2, "again")]


async def test_a_session_is_found_by_its_title(gateway: GatewayProcess, open_window: OpenWindow) -> None:
    async with talker(gateway, "anna") as voice:
        for title in ("Alps", "Baltic", "Crete", "Dolomites", "Eifel", "Flanders", "Ghent", "Harz"):
            await voice.ask("open", "attached", title=title, persistent=True)
    anna = await open_window()
    await anna.arrive("anna")
    await anna.page.keyboard.press("Control+k")
    find = anna.page.get_by_label("Find a session")
    await expect(find).to_be_focused()
    await find.fill("al")
    rows = anna.page.locator("#session-list .row")
    await expect(rows).to_have_count(2)
    await find.fill("zz")
    await expect(anna.page.get_by_text("No session of that name.")).to_be_visible()
    await find.fill("")
    await expect(rows).to_have_count(8)


async def test_whoever_is_known_by_name_gets_a_new_token_when_the_old_one_is_revoked(
    gateway: GatewayProcess, open_window: OpenWindow
) -> None:
    anna = await open_window()
    await anna.arrive("anna")
    await anna.start_session("Trip")
    revoked = await anna.page.request.post(
        f"{anna.url}/api/v1/users/anna/revoke", headers={"Authorization": f"Bearer {gateway.token('anna')}"}
    )
    assert revoked.ok
    await anna.say("still here")
    await expect(anna.message("still here")).to_be_visible(timeout=10_000)
    await expect(anna.waiting).to_have_count(0)
    await anna.connected()


async def test_a_token_is_asked_for_where_there_is_no_demo(
    open_window: OpenWindow, gateway: GatewayProcess
) -> None:
    anna = await open_window()
    await anna.page.route(
        "**/api/v1/config",
        lambda route: route.fulfill(json={"code": 200, "message": "OK", "data": {"demo": False}}),
    )
    await anna.load()
    field = anna.page.get_by_label("Access token")
    await field.fill("nonsense")
    await field.press("Enter")
    await expect(anna.page.get_by_role("alert")).to_contain_text("This is not a token")
    await field.fill(gateway.token("Ada"))
    await field.press("Enter")
    await expect(anna.page.locator("#account")).to_contain_text("Ada")
    await anna.connected()
    await anna.page.reload()
    await expect(anna.page.locator("#account")).to_contain_text("Ada")


async def test_a_token_that_is_not_good_leads_back_to_the_door(
    open_window: OpenWindow, gateway: GatewayProcess
) -> None:
    anna = await open_window()
    anna.tolerated.append(REFUSED)
    await anna.page.route(
        "**/api/v1/config",
        lambda route: route.fulfill(json={"code": 200, "message": "OK", "data": {"demo": False}}),
    )
    await anna.load()
    field = anna.page.get_by_label("Access token")
    await field.fill(gateway.token("Ada")[:-4] + "AAAA")
    await field.press("Enter")
    await anna.page.get_by_role("button", name="Sign in again").click()
    await expect(anna.page.get_by_label("Access token")).to_be_visible()
    await expect(anna.page.get_by_label("Access token")).to_have_value("")
