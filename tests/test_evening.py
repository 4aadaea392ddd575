"""`gateway rebalance`, where the node that it asks is not the one that sees to it."""

import asyncio

import pytest

from gateway import evening
from tests.http_server import HttpServer

RUNNING = (
    '{"state":"running","node":"n2","to_move":4,"not_asked":1,"waiting":1,'
    '"moved":2,"refused":0,"timed_out":0}'
)
DONE = RUNNING.replace("running", "done")
NONE = '{"state":"none"}'
NODES = '{"nodes":[{"id":"n1","connections":6},{"id":"n2","connections":2}]}'


class Node(HttpServer):
    """Answers each question with the next of `says`."""

    def __init__(self, *says: str) -> None:
        super().__init__()
        self._says = list(says)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status = "202 Accepted" if head.startswith(b"POST") else "200 OK"
        body = f'{{"data":{self._says.pop(0)}}}'
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()


async def test_a_node_that_has_forgotten_the_rebalancing_of_another_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evening, "LOOK_S", 0.01)
    monkeypatch.setattr(evening, "COUNTED_S", 0.0)
    told: list[str] = []
    async with Node(RUNNING, RUNNING, NONE, DONE, NODES) as node:
        await evening.even_out(node.url.rstrip("/"), told.append)
    assert told[-1] == "done: n1 6, n2 2"


async def test_a_node_that_knows_of_none_for_long_is_given_up_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evening, "LOOK_S", 0.01)
    async with Node(RUNNING, *[NONE] * 9) as node:
        with pytest.raises(evening.CannotEvenOut, match="knows of no rebalancing"):
            await evening.even_out(node.url.rstrip("/"), print)
