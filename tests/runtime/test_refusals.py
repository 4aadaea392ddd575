"""Whatever the log refuses, its sender is told by a code of the protocol."""

from typing import get_args

from gateway.runtime.messages import not_stored, refusal
from store.types import Refusal


def test_every_refusal_of_the_log_has_a_code_of_its_own() -> None:
    told = {code: refusal(code).code for code in get_args(Refusal)}
    # What cannot be stored is the request's fault, and no repetition cures it.
    assert told == {code: code for code in get_args(Refusal)} | {"invalid": "bad_request"}
    assert not any(refusal(code).retryable for code in get_args(Refusal))


def test_what_is_told_of_an_outage_is_told_anew_each_time() -> None:
    # Raised again, an exception keeps the frames of every time before, and all that they hold.
    assert not_stored() is not not_stored()
