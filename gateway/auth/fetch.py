"""Getting a document over HTTP, for key sets."""

from typing import Final

from gateway.exchange import ExchangeFailed, Question, exchange

_QUESTION: Final = Question("GET", (("Accept", "application/jwk-set+json, application/json"),))


class FetchFailed(Exception):
    """There is no answer to use; the message says why."""


async def fetch(url: str, *, timeout_s: float, most_bytes: int) -> bytes:
    """Get the body behind the URL. FetchFailed, after `timeout_s` at the latest."""
    try:
        answer = await exchange(url, _QUESTION, timeout_s=timeout_s, most_bytes=most_bytes)
    except ExchangeFailed as error:
        raise FetchFailed(str(error)) from error
    if answer.status != 200:
        raise FetchFailed(f"the answer is {answer.status}, not 200")
    return answer.body
