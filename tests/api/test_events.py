"""`GET /api/v1/events`: for operators, of their tenant, in order, with a word about what is gone."""

from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from store.errors import Unavailable
from tests.api.conftest import Api, problem_of
from tests.store.making import opened

HOUR_MS = 3_600_000


async def ask(
    api: Api, query: str = "", *, tenant: str = "default", scopes: Iterable[str] = ("operator",)
) -> httpx.Response:
    token = api.gateway.tokens.mint("olga", tenant, scopes=scopes)
    return await api.call("GET", f"/api/v1/events{query}", headers={"Authorization": f"Bearer {token}"})


async def page(api: Api, query: str = "", *, tenant: str = "default") -> dict[str, Any]:
    response = await ask(api, query, tenant=tenant)
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


async def test_events_are_for_operators_only(api: Api) -> None:
    await api.session("alice")
    problem_of(await api.call("GET", "/api/v1/events"), 401, "unauthenticated")
    for scopes in ([], ["admin"], ["operators"], ["Operator"]):
        told = problem_of(await ask(api, scopes=scopes), 403, "forbidden")
        assert "operator" in str(told["message"])
    # Before anything of the query is looked at: nobody learns from its errors either.
    problem_of(await ask(api, "?after=x", scopes=[]), 403, "forbidden")


async def test_an_operator_is_shown_what_happened_and_who_did_it(api: Api) -> None:
    session = await api.session("alice", title="one")
    body = {"role": "writer"}
    await api.data("PUT", f"/api/v1/sessions/{session}/members/bob", user="alice", body=body)
    await api.data("DELETE", f"/api/v1/sessions/{session}/members/bob", user="bob")
    data = await page(api)
    assert [(each["kind"], each["actor"], each["version"]) for each in data["events"]] == [
        ("created", "alice", 1),
        ("updated", "alice", 2),
        ("updated", "bob", 3),
    ]
    assert {(each["session"], each["tenant"]) for each in data["events"]} == {(session, "default")}
    assert set(data["events"][0]) == {"id", "tenant", "session", "kind", "version", "at", "actor", "data"}
    assert (data["next"], data["more"], data["oldest"], data["gap"]) == (3, False, 1, False)


async def test_an_operator_sees_the_events_of_their_tenant_only(api: Api) -> None:
    ours = await api.session("alice")
    theirs = await opened(api.gateway.stores.log, tenant="acme")
    assert [each["session"] for each in (await page(api))["events"]] == [ours]
    other = await page(api, tenant="acme")
    assert [each["session"] for each in other["events"]] == [theirs.id]
    assert (await page(api, "?tenant=acme"))["events"][0]["session"] == ours
    assert (await page(api, tenant="nobody"))["events"] == []


async def test_pages_follow_each_other(api: Api) -> None:
    made = [await api.session("alice") for _ in range(5)]
    seen: list[str] = []
    after, more = 0, True
    while more:
        data = await page(api, f"?after={after}&limit=2")
        seen += [each["session"] for each in data["events"]]
        after, more = data["next"], data["more"]
    assert seen == made
    data = await page(api, f"?after={after}")
    assert (data["events"], data["next"], data["more"]) == ([], after, False)
    assert (await page(api, f"?after={after + 1000}"))["next"] == after + 1000


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", "after=1.5", "after=" + "9" * 19, "after=٣", "limit=0", "limit=1001", "limit=x"],
)
async def test_a_query_that_makes_no_sense_is_refused(api: Api, query: str) -> None:
    problem_of(await ask(api, f"?{query}"), 400, "bad_request")


async def test_a_thousand_are_shown_at_once(api: Api) -> None:
    assert (await page(api, "?limit=1000&after=" + "9" * 18))["events"] == []


async def test_a_cursor_from_before_a_purge_is_told_of_the_gap_once(api: Api) -> None:
    log, now = api.gateway.stores.log, api.gateway.node.clock.now_ms()
    for hours in (200, 199, 0):
        await opened(log, tenant="default", created_at=now - hours * HOUR_MS)
    assert (await page(api, "?after=1"))["gap"] is False
    await api.gateway.node.events.purge()
    data = await page(api, "?after=1")
    assert ([each["id"] for each in data["events"]], data["gap"], data["oldest"]) == ([3], True, 3)
    assert (await page(api, f"?after={data['next']}"))["gap"] is False
    assert (await page(api, "?after=2"))["gap"] is False
    # Of a tenant in which nothing has happened since: the cursor passes what is gone.
    data = await page(api, "?after=1", tenant="acme")
    assert (data["events"], data["gap"], data["next"]) == ([], True, 2)
    assert (await page(api, "?after=2", tenant="acme"))["gap"] is False


async def test_while_the_log_is_away_an_operator_is_told_to_come_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(tenant: str, *, after: int, limit: int) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(api.gateway.stores.log, "events_of", away)
    response = await ask(api)
    problem_of(response, 503, "unavailable")
    assert "retry-after" in response.headers
