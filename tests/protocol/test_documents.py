"""docs/protocol.md says what the code does."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from gateway.protocol import frames, lifecycle, peer, shapes
from gateway.protocol.close import ERROR_CODES, RETRYABLE, CloseCode, action
from gateway.protocol.codec import decode
from gateway.protocol.limits import Limits
from store.types import MessageRole

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
SESSION = "01920000-0000-7000-8000-00000000000a"


def chapter(title: str) -> str:
    """The text under a heading, up to the next one."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(text: str, header: str) -> list[list[str]]:
    """The rows of the table that has this header, cell by cell."""
    lines = text.partition(f"| {header} |\n")[2].splitlines()
    rows = [line for line in lines[: _length(lines)] if not line.startswith("|---")]
    assert rows, f"no table {header!r}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def _length(lines: list[str]) -> int:
    return next((n for n, line in enumerate(lines) if not line.startswith("|")), len(lines))


def names(cell: str) -> set[str]:
    """What stands in backticks."""
    return set(re.findall(r"`([^`]+)`", cell))


def drawn(start: str, transitions: Mapping[Any, str]) -> str:
    """A table of states as a Mermaid diagram; inputs that lead the same way share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (before, happening), after in transitions.items():
        arrows.setdefault((before, after), []).append(happening)
    lines = [f"    {before} --> {after}: {', '.join(inputs)}" for (before, after), inputs in arrows.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {start}", *lines])


def diagram(title: str) -> str:
    """The Mermaid diagram of a chapter."""
    return chapter(title).partition("```mermaid\n")[2].partition("\n```")[0]


def test_the_states_of_a_connection_are_drawn_as_the_table_has_them() -> None:
    assert diagram("The state of a connection") == drawn(peer.State.OPENING, peer.TABLE)


def test_the_states_of_a_session_are_drawn_as_the_table_has_them() -> None:
    assert diagram("The state of a session") == drawn("connecting", lifecycle.TABLE)


def test_the_table_of_close_codes_is_that_of_the_code() -> None:
    written = [(int(code), name, what) for code, name, what in table(PAGE, "code | name | client")]
    assert written == [(code, code.reason, action(code)) for code in CloseCode]


def test_the_table_of_error_codes_is_that_of_the_code() -> None:
    written = [(code.strip("`"), retry == "yes") for code, _, retry in table(PAGE, "code | meaning | retry")]
    assert written == [(code, code in RETRYABLE) for code in ERROR_CODES]


def test_the_table_of_limits_is_what_a_welcome_tells() -> None:
    written = {name.strip("`"): float(value) for name, value, _ in table(PAGE, "limit | default | beyond it")}
    assert written == msgspec.structs.asdict(Limits())


def test_the_frames_of_the_client_have_the_fields_that_are_written() -> None:
    written = [
        (*names(type_), names(required), names(optional))
        for type_, required, optional in table(PAGE, "type | required | optional")
    ]
    assert written == [_fields(struct) for struct in get_args(frames.ClientFrame)]


def _fields(struct: type[msgspec.Struct]) -> tuple[Any, ...]:
    fields = msgspec.structs.fields(struct)
    required = {field.encode_name for field in fields if field.required}
    return struct.__struct_config__.tag, required, {f.encode_name for f in fields} - required - {"id"}


def test_the_frames_of_the_gateway_have_the_fields_that_are_written() -> None:
    written = [
        (*names(type_), names(always), names(absent))
        for type_, always, absent in table(PAGE, "type | always | may be absent")
    ]
    assert written == [_keys(shape) for shape in get_args(shapes.ServerFrame)]


def _keys(shape: Any) -> tuple[Any, ...]:
    (type_,) = get_args(shape.__annotations__["type"])
    return type_, set(shape.__required_keys__) - {"type"}, set(shape.__optional_keys__)


def test_the_events_states_and_roles_are_all_named() -> None:
    assert names(chapter("Sessions")) >= set(get_args(shapes.SessionEventName))
    assert names(chapter("Messages")) >= set(get_args(MessageRole))
    assert names(chapter("Moving")) >= set(get_args(shapes.MigrateReason))
    assert set(get_args(lifecycle.State)) <= set(re.findall(r"\w+", diagram("The state of a session")))


def _said(direction: str) -> Iterable[str]:
    return re.findall(rf"^    {direction} (\{{.*\}})$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("example", _said("→"))
def test_an_example_of_a_client_is_read(example: str) -> None:
    frame = decode(example.replace('"S"', f'"{SESSION}"').encode(), Limits())
    tag = type(frame).__struct_config__.tag
    assert f'"type":"{tag}"' in example


@pytest.mark.parametrize("example", _said("←"))
def test_an_example_of_the_gateway_has_the_fields_of_its_frame(example: str) -> None:
    shortened = ",…}" in example
    frame = json.loads(example.replace(",…}", "}").replace("[…]", "[]"))
    known = [_keys(shape) for shape in get_args(shapes.ServerFrame)]
    fits = [
        type_ == frame["type"]
        and set(frame) - {"type"} <= always | absent
        and (shortened or always <= set(frame))
        for type_, always, absent in known
    ]
    assert any(fits)


def test_every_frame_has_an_example() -> None:
    shown = {re.findall(r'"type":"(\w+)"', example)[0] for example in _said("→")}
    assert shown == frames.TYPES
    shown = {re.findall(r'"type":"(\w+)"', example)[0] for example in _said("←")}
    assert shown == {_keys(shape)[0] for shape in get_args(shapes.ServerFrame)}
