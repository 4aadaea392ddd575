"""docs/rest.md: its commands run as they stand, one after the other, against a gateway of their own."""

import asyncio
import os
import re
from pathlib import Path

from tests.process import ROOT, GatewayProcess

DOCUMENT = (ROOT / "docs" / "rest.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", DOCUMENT, flags=re.M | re.S)
# Each line says where it is; a pipe fails with its first part.
PREFACE = "set -euo pipefail\nPS4='+ line: '\nset -x\n"


async def test_every_documented_command_succeeds(tmp_path: Path) -> None:
    assert len(BLOCKS) >= 4
    async with GatewayProcess(tmp_path / "data") as gateway:
        script = PREFACE + "\n".join(BLOCKS).replace("http://127.0.0.1:8000", gateway.url)
        env = {
            **os.environ,
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
            "GATEWAY_DATA_DIR": str(tmp_path / "data"),
        }
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", script, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()[-2_000:]
        for shown in ('"Trip"', "null"):
            assert shown in out.decode()
