"""The examples run, on a real gateway."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import httpx

from session_gateway_client import connect
from tests.process import ROOT, GatewayProcess

EXAMPLES: Final = ROOT / "clients" / "python" / "examples"


async def start(gateway: GatewayProcess, name: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        str(EXAMPLES / name),
        *arguments,
        env={**os.environ, "CHAT_GATEWAY": gateway.url, "PYTHONPATH": str(EXAMPLES.parent)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_hello(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path) as gateway:
        hello = await start(gateway, "hello.py")
        said = (await hello.communicate())[0].decode()
        assert hello.returncode == 0, said
        assert "committed as 1\n1 alice: hello\nthe history has 1\n" in said


async def test_chat_sends_what_is_typed_and_shows_what_is_said(tmp_path: Path) -> None:
    async with (
        GatewayProcess(tmp_path) as gateway,
        connect(gateway.ws_url, token=gateway.token("alice")) as client,
    ):
        session = await client.open()
        await session.send("before")
        chat = await start(gateway, "chat.py", "alice", session.id)
        said = (await chat.communicate(b"first line\nsecond line\n"))[0].decode()
        assert chat.returncode == 0, said
        assert "alice: before\n" in said
        async with asyncio.timeout(5):
            assert [(await anext(session)).content for _ in range(3)] == [
                "before",
                "first line",
                "second line",
            ]


async def test_the_bot_answers_from_inside_its_loop_and_again_after_the_gateway_was_killed(
    tmp_path: Path,
) -> None:
    async with (
        GatewayProcess(tmp_path) as gateway,
        connect(gateway.ws_url, token=gateway.token("alice")) as client,
    ):
        session = await client.open()
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
            path = f"/api/v1/sessions/{session.id}/members/bob"
            headers = {"Authorization": f"Bearer {gateway.token('alice')}"}
            (await http.put(path, json={"role": "writer"}, headers=headers)).raise_for_status()
        bot = await start(gateway, "bot.py", "bob", session.id)
        try:
            async with asyncio.timeout(30):
                await session.send("!echo one")
                assert [(await anext(session)).content for _ in range(2)] == ["!echo one", "one"]
                await gateway.restart()
                await session.send("!echo two")
                assert [(await anext(session)).content for _ in range(2)] == ["!echo two", "two"]
        finally:
            bot.terminate()
            said = (await bot.communicate())[0].decode()
        assert bot.returncode == -signal.SIGTERM, said
