"""What a receiver can know of a delivery: the checks that docs/events.md shows, run as they stand there."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.runtime.webhook import Webhook, WebhookSettings, signature
from store.log_sqlite.log import SqliteLog
from tests.process import ROOT
from tests.runtime.receiver import Receiver, Request
from tests.store.making import opened

DOCUMENT = (ROOT / "docs" / "events.md").read_text()
OLD, NEW = "an old secret of the tests, long enough", "a new secret of the tests, long enough"

Check = Callable[[dict[str, str], bytes, str], bool]


def block(language: str) -> str:
    (only,) = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    return str(only)


async def in_python(cases: list[tuple[dict[str, str], bytes, str]]) -> list[bool]:
    names: dict[str, Any] = {}
    exec(block("python"), names)  # noqa: S102 - the example is what is tested
    return [bool(names["is_genuine"](*case)) for case in cases]


async def in_node(cases: list[tuple[dict[str, str], bytes, str]]) -> list[bool]:
    asked = json.dumps([[headers, body.decode(), secret] for headers, body, secret in cases])
    program = f"{block('js')}\nconsole.log(JSON.stringify({asked}.map(([h, b, s]) => isGenuine(h, b, s))));"
    process = await asyncio.create_subprocess_exec(
        "node", "--input-type=module", "-e", program, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    answers: list[bool] = json.loads(out)
    return answers


async def delivery(path: Path, *secrets: str) -> Request:
    log = SqliteLog(path)
    await log.start()
    await opened(log, owner="zoë")
    async with Receiver() as receiver:
        settings = WebhookSettings(receiver.url, secrets, 5.0)
        await Webhook(settings, log, SystemClock(), "n1").deliver()
        await log.close()
        return receiver.requests[0]


@pytest.mark.parametrize("check", [in_python, in_node])
async def test_the_documented_checks_believe_what_is_ours_and_nothing_else(
    tmp_path: Path, check: Callable[..., Any]
) -> None:
    request = await delivery(tmp_path, NEW, OLD)
    headers, body = request.headers, request.body
    late = str(int(time.time()) - 301)
    again = {**headers, "webhook-timestamp": late}
    again["webhook-signature"] = signature(NEW, headers["webhook-id"], int(late), body)
    cases = [
        (headers, body, NEW),
        (headers, body, OLD),
        (headers, body, "another secret"),
        (headers, body.replace(b"created", b"deleted"), NEW),
        ({**headers, "webhook-id": "2-2"}, body, NEW),
        ({**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}, body, NEW),
        ({**headers, "webhook-signature": "v1="}, body, NEW),
        ({**headers, "webhook-signature": headers["webhook-signature"].replace("v1=", "v2=")}, body, NEW),
        (again, body, NEW),
    ]
    assert await check(cases) == [True, True, *[False] * 7]


async def test_a_delivery_is_signed_with_each_secret(tmp_path: Path) -> None:
    request = await delivery(tmp_path, NEW, OLD)
    id, at = request.headers["webhook-id"], int(request.headers["webhook-timestamp"])
    expected = [signature(secret, id, at, request.body) for secret in (NEW, OLD)]
    assert request.headers["webhook-signature"].split(" ") == expected
    assert all(re.fullmatch("v1=[0-9a-f]{64}", each) for each in expected)


def test_a_signature_is_what_it_always_was() -> None:
    # As `printf '1-2.1700000000.{"events":[]}' | openssl dgst -sha256 -hmac secret` has it.
    expected = "57d4af3be47ab1ab2ddd09ec500faded73cd770c74e66f42cdb65a0405f4c96a"
    assert signature("secret", "1-2", 1700000000, b'{"events":[]}') == f"v1={expected}"


def test_settings_of_a_webhook_show_nothing_of_it() -> None:
    shown = repr(WebhookSettings("https://host/secret-path", (NEW,), 5.0))
    assert "secret" not in shown
    assert "host" not in shown
