"""Chromium and a gateway process for every test. A page that complains in its console fails its test."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest_asyncio
from playwright.async_api import Browser, ViewportSize, async_playwright

from tests.page.window import WIDE, Window
from tests.process import GatewayProcess

ARGS: Final = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

OpenWindow = Callable[..., Awaitable[Window]]


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    async with GatewayProcess(tmp_path / "data") as process:
        yield process


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    # A Chromium of the system where there is one; else the one that `playwright install chromium` fetched.
    path = shutil.which("chromium")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=path, args=ARGS)
        try:
            yield chromium
        finally:
            await chromium.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_window(browser: Browser, gateway: GatewayProcess) -> AsyncIterator[OpenWindow]:
    """Opens windows that share nothing, like those of people on different machines."""
    opened: list[Window] = []

    async def open_one(size: tuple[int, int] = WIDE, *, theme: str = "light", touch: bool = False) -> Window:
        viewport: ViewportSize = {"width": size[0], "height": size[1]}
        context = await browser.new_context(
            viewport=viewport,
            color_scheme="dark" if theme == "dark" else "light",
            has_touch=touch,
            is_mobile=touch,
            locale="en-GB",
            permissions=["clipboard-read", "clipboard-write"],
        )
        window = await Window.open(context, gateway.url)
        opened.append(window)
        return window

    yield open_one
    faults = [fault for window in opened for fault in window.faults]
    for window in opened:
        await window.page.context.close()
    assert not faults
