"""One gateway process for all tests of a module that only talk to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.process import GatewayProcess


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway with everything at its default."""
    async with GatewayProcess(tmp_path / "data") as process:
        yield process
