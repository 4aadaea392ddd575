"""What may be stored as it came: compared with a slow reader that looks at every value."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.codec import Fragment, FrameError, check_document, json_bytes
from gateway.protocol.documents import fault_of, holds_nul
from gateway.protocol.limits import MAX_SAFE_INTEGER, Limits
from tests.protocol.strategies import any_json, documents

DEPTH = 32


class Unfit(Exception):
    """The slow reader's refusal."""


class Pairs(list[Any]):
    """All keys and values of an object, one after the other."""


def fits(data: bytes) -> bool:
    """Read every key and value, those hidden by a later key included."""
    try:
        value = json.loads(
            data.decode(),
            parse_int=_number,
            parse_float=_number,
            parse_constant=_refuse,
            object_pairs_hook=lambda pairs: Pairs(part for pair in pairs for part in pair),
        )
        _walk(value, 0)
    except (Unfit, ValueError, RecursionError):
        return False
    return isinstance(value, Pairs)


def _number(text: str) -> float:
    exponent = text.lower().partition("e")[2].lstrip("+-")
    if len(exponent) > 2 or abs(float(text)) > MAX_SAFE_INTEGER:
        raise Unfit(text)
    return float(text)


def _refuse(text: str) -> None:
    raise Unfit(text)


def _walk(value: Any, depth: int) -> None:
    if isinstance(value, list):
        if depth == DEPTH:
            raise Unfit("deep")
        for inner in value:
            _walk(inner, depth + 1)
    elif isinstance(value, str):
        value.encode()  # half a surrogate pair is a UnicodeEncodeError, and that a ValueError
        if "\0" in value:
            raise Unfit("NUL")


@settings(max_examples=400, deadline=None)
@given(st.one_of(any_json(), st.dictionaries(st.text(max_size=4), any_json(), max_size=4)), st.booleans())
def test_the_check_agrees_with_a_slow_reader(value: Any, ascii: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii).encode(errors="surrogatepass")
    assert (fault_of(data, depth=DEPTH) is None) == fits(data)


@given(documents())
def test_what_passes_can_be_spliced_and_read_again(document: dict[str, Any]) -> None:
    data = json.dumps(document).encode()
    check_document(data, Limits())
    assert json.loads(json_bytes({"metadata": Fragment(data)})) == {"metadata": document}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'{"a":1',
        b'{"a":1}}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b'{"\xff":1}',
        b'{"a":"\\x"}',
        b'{"a":"\\ud800"}',
        b'{"a":{"b":"\\udc00"}}',
        b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"a":' + b"9" * 60_000 + b"}",
        b'{"a":"\\u0000"}',
        b'{"a":"\x00"}',
        b'{"a":9007199254740993,"a":1}',
        b'{"a":1e-123}',
        b'{"a":0e+100}',
    ],
)
def test_what_would_poison_a_replay_is_refused(data: bytes) -> None:
    assert not fits(data)
    with pytest.raises(FrameError) as caught:
        check_document(data, Limits())
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b' {"a" : [ ] } ',
        b'{"a":9007199254740991,"b":-9007199254740991.0,"c":9.007199254740991e15}',
        b'{"a":0.00000000000000000000000000000001,"b":1e-99,"c":0E0,"d":-0.0}',
        b'{"a":"1e999 \\" 123456789012345678901234567890 [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}',
        b'{"a":"\\\\","b":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[","c":"\\\\u0000"}',
        b'{"a":[' + b"[]," * 100 + b"[]]}",
        b'{"a":1,"a":2}',
    ],
)
def test_what_every_parser_reads_alike_is_taken(data: bytes) -> None:
    assert fits(data)
    check_document(data, Limits())


def test_a_document_nests_as_deep_as_allowed_and_no_deeper() -> None:
    for depth in (1, 2, 31, 32):
        data = b'{"a":' * depth + b"1" + b"}" * depth
        assert fault_of(data, depth=depth) is None
        assert fault_of(data, depth=depth - 1) == f"nests deeper than {depth - 1} levels"


def test_a_document_too_large_is_refused_before_it_is_read() -> None:
    check_document(b"{}", Limits(document_bytes=2))
    with pytest.raises(FrameError) as caught:
        check_document(b"not even JSON", Limits(document_bytes=2))
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (rb'"\u0000"', True),
        (rb'"\\u0000"', False),
        (rb'"\\\u0000"', True),
        (rb'"\\\\u0000"', False),
        (rb'"\n\u0000"', True),
        (rb'"u0000"', False),
        (rb'"\u00001"', True),
        (rb'"\u0001"', False),
    ],
)
def test_a_nul_is_told_from_a_text_that_looks_like_one(data: bytes, expected: bool) -> None:
    assert holds_nul(data) is expected
    assert ("\0" in json.loads(data)) is expected


def test_a_few_tiny_numbers_are_stored_and_thousands_are_not() -> None:
    few, many = (b'{"a":[' + b",".join([b"1e-40"] * count) + b"]}" for count in (50, 51))
    assert fault_of(few, depth=DEPTH) is None
    assert "tiny numbers" in (fault_of(many, depth=DEPTH) or "")
