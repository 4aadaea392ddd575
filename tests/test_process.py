"""The process helper itself, held against a stand-in that only answers `/readyz`."""

import os
import sys
from pathlib import Path

import httpx
import jwt
import pytest

from tests.process import GatewayProcess

STAND_IN = """
import http.server, os, sys
print("started", flush=True)
print("x" * 100_000, flush=True)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["GATEWAY_PORT"])), Answer).serve_forever()
"""


def stand_in(data_dir: Path, program: str = STAND_IN, env: dict[str, str] | None = None) -> GatewayProcess:
    return GatewayProcess(data_dir, env=env, command=(sys.executable, "-c", program))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_killed_process_comes_back_on_its_port_and_is_reaped_at_the_end(tmp_path: Path) -> None:
    async with stand_in(tmp_path) as gateway:
        first, url = gateway.pid, gateway.url
        await gateway.kill()
        assert not gateway.is_running
        assert not is_alive(first)
        await gateway.restart()
        assert gateway.url == url
        second = gateway.pid
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{url}/readyz")).status_code == 200
    assert not is_alive(second)
    assert gateway.output.count("started") == 2


async def test_output_is_bounded(tmp_path: Path) -> None:
    async with stand_in(tmp_path) as gateway:
        await gateway.kill()
        assert len(gateway.output) < 10_000


async def test_a_process_that_dies_at_once_fails_with_its_output(tmp_path: Path) -> None:
    gateway = stand_in(tmp_path, "print('no such table'); raise SystemExit(3)")
    with pytest.raises(AssertionError, match=r"(?s)exited with 3.*no such table"):
        await gateway.start()
    assert not gateway.is_running


async def test_a_process_that_never_gets_ready_is_killed(tmp_path: Path) -> None:
    gateway = stand_in(tmp_path, "import time; print('up', flush=True); time.sleep(60)")
    with pytest.raises(AssertionError, match=r"(?s)not ready within.*up"):
        await gateway.start(within=0.5)
    assert not gateway.is_running


async def test_tokens_are_signed_with_the_configured_secret_or_the_development_key(tmp_path: Path) -> None:
    secret = "s" * 32
    token = stand_in(tmp_path, env={"GATEWAY_JWT_SECRET": secret}).token("alice", scopes=["operator"])
    claims = jwt.decode(token, secret, algorithms=["HS256"], audience="session-gateway")
    assert (claims["sub"], claims["tenant"], claims["scope"]) == ("alice", "default", "operator")

    (tmp_path / "dev-key").write_text("k" * 43 + "\n")
    claims = jwt.decode(
        stand_in(tmp_path).token("bob"), "k" * 43, algorithms=["HS256"], audience="session-gateway"
    )
    assert claims["sub"] == "bob"
