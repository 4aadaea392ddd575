"""What is logged: one line per event, and nothing in it that should not be read by whoever reads logs."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.ids import new_id, new_secret
from gateway.telemetry import logs
from gateway.telemetry.logs import REPEATS, REPEATS_S, Repeats
from gateway.telemetry.redaction import LEFT_OUT, REDACTED, clean, clean_event
from tests.auth.makers import claims, signed


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes, with everything put back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_lines_and_those_of_libraries_look_alike(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)
    structlog.stdlib.get_logger("gateway.test").info("opened", connection="c1")
    logging.getLogger("some.package").warning("slow: %d ms", 7)
    ours, theirs = written(stream)
    assert (ours["event"], ours["level"], ours["logger"], ours["connection"]) == (
        "opened",
        "info",
        "gateway.test",
        "c1",
    )
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("slow: 7 ms", "warning", "some.package")
    assert ours["timestamp"].endswith("Z")
    assert list(ours)[:3] == ["timestamp", "level", "event"]


def test_uvicorn_says_nothing_of_requests_and_its_own_life(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)
    logging.getLogger("uvicorn.access").info('GET /?token=x "200 OK"')
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").error("broken")
    assert [line["event"] for line in written(stream)] == ["broken"]


def test_what_is_below_the_level_is_not_written(stream: io.StringIO) -> None:
    logs.configure("json", "warning", stream)
    structlog.stdlib.get_logger("gateway.test").info("opened")
    assert written(stream) == []


def test_without_a_terminal_auto_means_json(stream: io.StringIO) -> None:
    logs.configure("auto", "info", stream)
    structlog.stdlib.get_logger("gateway.test").info("opened")
    assert written(stream)[0]["event"] == "opened"


def test_a_bug_is_one_line_with_its_traceback_and_without_its_variables(stream: io.StringIO) -> None:
    for form in ("json", "console"):
        stream.truncate(0)
        logs.configure("json" if form == "json" else "console", "info", stream)
        token = signed(claims())
        try:
            raise ValueError(f"cannot read {token}")
        except ValueError:
            structlog.stdlib.get_logger("gateway.test").exception("bug")
        text = stream.getvalue()
        assert "Traceback" in text
        assert "test_logs.py" in text
        assert token not in text
        assert REDACTED in text


def test_secrets_are_known_by_name_and_by_looks() -> None:
    token, secret = signed(claims()), new_secret()
    event = clean_event(
        None,
        "info",
        {
            "event": f"hello {token}",
            "token": "x",
            "resume_token": "x",
            "Authorization": "Bearer x",
            "password": "x",
            "note": f"ticket={secret}",
            "headers": {"cookie": "a=b", "host": "h"},
            "tried": [token, {"secret": "x"}],
            "content": "what alice said",
            "metadata": b"{}",
            "frame": b"bytes",
            "has_token": True,
            "session": new_id(),
        },
    )
    assert event["event"] == f"hello {REDACTED}"
    for name in ("token", "resume_token", "Authorization", "password"):
        assert event[name] == REDACTED
    assert event["note"] == f"ticket={REDACTED}"
    assert event["headers"] == {"cookie": REDACTED, "host": "h"}
    assert event["tried"] == [REDACTED, {"secret": REDACTED}]
    assert event["content"] == event["metadata"] == LEFT_OUT
    assert event["frame"] == "[5 bytes]"
    assert event["has_token"] is True
    assert len(event["session"]) == 36


@given(st.text(st.characters(), max_size=300))
def test_no_control_character_reaches_a_line(text: str) -> None:
    assert clean(text).isprintable()


def test_a_line_cannot_be_forged_or_a_terminal_be_driven() -> None:
    forged = 'x\n{"event":"signed in"}\r\x1b[2J\u202e\u2028\x00\x7f'
    assert clean(forged) == 'x\\n{"event":"signed in"}\\r\\x1b[2J\\u202e\\u2028\\x00\\x7f'
    assert clean("ä – 語 🙂") == "ä – 語 🙂"


def test_endless_values_are_cut() -> None:
    assert len(clean("x" * 100_000)) < 1100
    deep: dict[str, Any] = {}
    for _ in range(50):
        deep = {"a": deep}
    assert len(str(clean_event(None, "info", {"deep": deep, "long": list(range(10_000))}))) < 1000


def test_repeats_are_counted_instead_of_written(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    logs.configure("json", "info", stream)
    log = structlog.stdlib.get_logger("gateway.test")
    for number in range(REPEATS + 80):
        log.warning("store_away", attempt=number)
        logging.getLogger("some.package").warning("failed %d", number)
    log.warning("another")
    lines = written(stream)
    assert len(lines) == 2 * REPEATS + 1
    now += REPEATS_S
    log.warning("store_away")
    logging.getLogger("some.package").warning("failed %d", 1)
    assert [line["left_out"] for line in written(stream)[-2:]] == [80, 80]


def test_the_memory_for_repeats_is_bounded() -> None:
    repeats = Repeats(lambda: 0.0)
    for number in range(5000):
        record = logging.LogRecord("lib", logging.INFO, "", 0, f"{number} {'x' * 1000}", None, None)
        assert repeats.admit(record)
    assert len(repeats) == 512
