"""A server with nothing but the edge behind it, on both event loops, with a clock that tests push forward."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.edge.serving import Served, Start, serving


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The gateway runs on uvloop; what holds only there would be luck."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


@pytest.fixture
async def serve() -> AsyncIterator[Start]:
    """Start servers with limits of the test's choosing; all end with the test."""
    async with serving() as start:
        yield start


@pytest.fixture
async def served(serve: Start) -> Served:
    """A server with the default limits."""
    return await serve()
