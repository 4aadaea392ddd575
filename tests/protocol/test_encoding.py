"""What goes out: whole frames that a client can read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorCode
from gateway.protocol import replies
from gateway.protocol.close import ERROR_CODES, RETRYABLE
from gateway.protocol.codec import encode, json_bytes
from tests.protocol.reading import payload, read
from tests.protocol.server_frames import message


@pytest.mark.parametrize("size", [9, 124, 125, 126, 127, 65_534, 65_535, 65_536, 65_537, 300_000])
def test_the_header_is_right_at_every_border_of_the_length(size: int) -> None:
    frame = encode({"a": "x" * (size - len('{"a":""}'))})
    assert len(payload(frame)) == size


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.text("aé😀", max_size=200)))
def test_what_is_encoded_is_read_again(frame: dict[str, str]) -> None:
    assert read(encode(frame)) == frame
    assert json.loads(json_bytes(frame)) == frame


def test_stored_json_is_passed_on_byte_by_byte() -> None:
    stored = b'{ "a" : 1.50, "a":"\\u00e9" }'
    assert b'"metadata":' + stored in replies.message(message(metadata=stored))


def test_a_signal_without_data_is_passed_on_with_an_empty_object() -> None:
    assert read(replies.signal("s", "typing", None, "bob", "c"))["data"] == {}


@pytest.mark.parametrize("code", ERROR_CODES)
def test_an_error_says_of_itself_whether_a_retry_helps(code: ErrorCode) -> None:
    assert read(replies.error(code, "m"))["retryable"] is (code in RETRYABLE)
    assert read(replies.error(code, "m", retryable=True))["retryable"] is True
    assert read(replies.error(code, "m", retryable=False))["retryable"] is False


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_763_719_200_007, "2025-11-21T10:00:00.007Z"),
        (951_782_400_999, "2000-02-29T00:00:00.999Z"),
    ],
)
def test_times_are_rfc_3339_with_milliseconds(at: int, text: str) -> None:
    assert replies.rfc3339(at) == text
