"""Codes and what follows from them."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.close import MAX_REASON_BYTES, CloseCode, clip_reason, reconnects


def test_the_range_of_a_code_decides_even_where_the_code_is_unknown() -> None:
    assert all(reconnects(code) for code in range(4000, 4500))
    assert not any(reconnects(code) for code in range(4500, 5000))


def test_reasons_are_the_names_on_the_wire() -> None:
    assert CloseCode.SLOW_READER.reason == "slow_reader"
    assert all(code.reason.replace("_", "").isalpha() for code in CloseCode)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_reason_fits_into_a_close_frame_and_is_cut_between_characters(text: str) -> None:
    reason = clip_reason(text)
    assert len(reason.encode()) <= MAX_REASON_BYTES
    assert text.startswith(reason)
    assert reason == text or len(reason.encode()) > MAX_REASON_BYTES - 4
