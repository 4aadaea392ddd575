"""What comes in: read as meant, or refused; never anything else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, note, settings
from hypothesis import strategies as st

from gateway.protocol import frames, replies
from gateway.protocol.codec import MAX_MESSAGE_CHARS, FrameError, decode, read_id
from gateway.protocol.limits import Limits
from tests.protocol.reading import read
from tests.protocol.server_frames import message
from tests.protocol.strategies import documents, likely_frames, noise
from tests.protocol.vectors import Vector, load

LIMITS = Limits()
SESSION = "01920000-0000-7000-8000-00000000000a"


def said(**fields: Any) -> bytes:
    """A frame on the wire."""
    return json.dumps(fields, ensure_ascii=False).encode()


def refusal(data: bytes, limits: Limits = LIMITS) -> FrameError:
    """Decode what must be refused."""
    with pytest.raises(FrameError) as caught:
        decode(data, limits)
    return caught.value


@settings(deadline=None)
@given(st.integers(min_value=0))
def test_ten_thousand_random_messages_are_frames_or_frame_errors(seed: int) -> None:
    # 100 of them for each of the 100 seeds: drawing each by itself would take minutes.
    for data in noise(seed, 100):
        frame_or_frame_error(data)


@settings(max_examples=200, deadline=None)
@given(likely_frames())
@example(b'{"type":"heartbeat","ts":' + b"9" * 5000 + b"}")
def test_a_frame_with_any_fields_is_a_frame_or_a_frame_error(data: bytes) -> None:
    frame_or_frame_error(data)


def frame_or_frame_error(data: bytes) -> None:
    """Decode what may be anything; what is refused can be answered."""
    note(repr(data))
    match decoded(data):
        case FrameError() as fault:
            assert 0 < len(fault.message) <= MAX_MESSAGE_CHARS
            answer = read(replies.error(fault.code, fault.message, id=fault.id))
            assert answer.get("id") == fault.id
        case frame:
            assert "\0" not in str(msgspec.structs.asdict(frame))


def decoded(data: bytes) -> frames.ClientFrame | FrameError:
    """Decode, whatever comes of it."""
    try:
        return decode(data, LIMITS)
    except FrameError as fault:
        return fault


@settings(deadline=None)
@given(st.sampled_from(load("valid")), st.data())
def test_a_valid_frame_with_one_byte_changed_breaks_nothing(vector: Vector, data: st.DataObject) -> None:
    broken = bytearray(vector.message)
    at = data.draw(st.integers(0, len(broken) - 1))
    broken[at] = data.draw(st.integers(0, 255))
    frame_or_frame_error(bytes(broken))


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.sampled_from(["user", "assistant", "system", "tool"]),
    st.one_of(st.none(), documents()),
)
def test_what_is_sent_is_what_readers_get(content: str, role: str, metadata: dict[str, Any] | None) -> None:
    data = said(type="send", id="c-1", session=SESSION, content=content, role=role, metadata=metadata)
    frame = decode(data, LIMITS)
    assert isinstance(frame, frames.Send)
    assert (frame.content, frame.role) == (content, role)
    delivered = read(replies.message(message(content=frame.content, metadata=frame.metadata or b"{}")))
    assert delivered["content"] == content
    assert delivered["metadata"] == (metadata or {})


def test_a_document_does_not_depend_on_the_buffer_it_came_in() -> None:
    frame = decode(said(type="send", id="c-1", session=SESSION, content="", metadata={"a": 1}), LIMITS)
    assert isinstance(frame, frames.Send)
    assert type(frame.metadata) is bytes
    assert frame.metadata == b'{"a": 1}'


@pytest.mark.parametrize("name", ["context", "metadata"])
def test_the_documents_of_open_and_update_are_given_as_bytes(name: str) -> None:
    opened = decode(said(type="open", **{name: {"a": 1}}), LIMITS)
    updated = decode(said(type="update", session=SESSION, **{name: {"a": 1}}), LIMITS)
    assert getattr(opened, name) == getattr(updated, name) == b'{"a": 1}'


def test_the_data_of_a_signal_are_given_as_bytes() -> None:
    frame = decode(said(type="signal", session=SESSION, name="n", data={}), LIMITS)
    assert isinstance(frame, frames.Signal)
    assert frame.data == b"{}"


def test_a_shorter_limit_holds() -> None:
    limits = Limits(message_bytes=4)
    decode(said(type="send", id="c-1", session=SESSION, content="1234"), limits)
    assert refusal(said(type="send", id="c-1", session=SESSION, content="12345"), limits).code == "too_large"
    assert refusal(said(type="send", id="c-1", session=SESSION, content="ééé"), limits).code == "too_large"


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "attach"},
        {"type": "detach"},
        {"type": "update", "title": "t"},
        {"type": "close"},
        {"type": "send", "content": ""},
        {"type": "history"},
        {"type": "read", "seq": 1},
        {"type": "signal", "name": "n"},
        {"type": "presence"},
    ],
    ids=lambda fields: fields["type"],
)
def test_what_is_no_id_of_a_session_does_not_exist(fields: dict[str, Any]) -> None:
    assert decode(said(id="r1", session=SESSION, **fields), LIMITS).id == "r1"
    for session in ("lobby", SESSION.upper(), SESSION + "\n", "", "é" * 36, f"{{{SESSION}}}"):
        fault = refusal(said(id="r1", session=session, **fields))
        assert (fault.code, fault.id) == ("not_found", "r1")


def test_more_attachments_than_allowed_in_a_hello_are_refused() -> None:
    attach = [{"session": SESSION}] * 65
    assert isinstance(decode(said(type="hello", attach=attach[:64]), LIMITS), frames.Hello)
    assert refusal(said(type="hello", attach=attach)).code == "limit_reached"


def test_a_message_never_quotes_more_than_helps() -> None:
    for data in (
        said(type="x" * 5000),
        said(type="send", id="c-1", session=SESSION, content="", role="x" * 5000),
        said(type="open", **{"persistent": "x" * 5000}),
    ):
        assert len(refusal(data).message) <= MAX_MESSAGE_CHARS


def test_the_fault_of_a_document_names_it() -> None:
    fault = refusal(said(type="update", id="r4", session=SESSION, context=[]))
    assert fault.message == "context is not a JSON object"
    assert fault.id == "r4"


@pytest.mark.parametrize(
    ("data", "id"),
    [
        (b'{"id":"a"}', "a"),
        (b'{"type":"send","id":"a","content":7}', "a"),
        (b'{"id":"a","id":"b"}', "b"),
        (b'{"id":7}', None),
        (b'{"id":""}', None),
        (b'{"id":"a\\u0000"}', None),
        (b'{"id":"a\\u2028"}', None),
        (b'{"id":"' + b"i" * 65 + b'"}', None),
        (b'{"id":"\xff"}', None),
        (b'{"id":"a"', None),
        (b"[]", None),
        (b"{}", None),
        (b'{"id":' + b"[" * 100_000, None),
    ],
)
def test_an_id_is_read_where_it_can_be_repeated(data: bytes, id: str | None) -> None:
    assert read_id(data) == id
