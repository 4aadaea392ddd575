"""Whatever the log refuses, its sender is told by a code of the protocol."""

from typing import get_args

from gateway.runtime.sending import _refusal
from store.types import Refusal


def test_every_refusal_of_the_log_has_a_code_of_its_own() -> None:
    told = {code: _refusal(code).code for code in get_args(Refusal)}
    # What cannot be stored is the request's fault, and no repetition cures it.
    assert told == {code: code for code in get_args(Refusal)} | {"invalid": "bad_request"}
    assert not any(_refusal(code).retryable for code in get_args(Refusal))
