"""A browser window with a person at it: what they do and see, and what went wrong behind their back."""

import re
from typing import Final

from playwright.async_api import BrowserContext, ConsoleMessage, Error, Locator, Page, expect

WIDE: Final = (1440, 900)
NARROW: Final = (375, 760)

# What Chromium itself writes when a gateway that was killed on purpose does not answer, and at a 404 or 401.
AWAY: Final = re.compile(r"net::ERR_|WebSocket connection to .* failed|Failed to load resource")
MISSING: Final = re.compile(r"status of 404")
REFUSED: Final = re.compile(r"status of 401")

_WATCH: Final = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
});
"""


class Window:
    """One page of the chat."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.faults: list[str] = []
        self.tolerated: list[re.Pattern[str]] = []
        page.on("console", self._on_console)
        page.on("pageerror", self._on_error)

    @classmethod
    async def open(cls, context: BrowserContext, url: str) -> "Window":
        """Open a window, and watch it."""
        page = await context.new_page()
        await page.add_init_script(_WATCH)
        return cls(page, url)

    # -- what a person does

    async def come_in(self, name: str, session: str = "") -> None:
        """Load the page, give a name, and wait until the list is there."""
        await self.load(session)
        await self.page.get_by_label("Your name").fill(name)
        await self.page.get_by_role("button", name="Come in").click()
        await expect(self.page.locator("#app")).to_be_visible()
        await self.connected()

    async def arrive(self, name: str, session: str = "") -> None:
        """Load the page as somebody who has given their name before."""
        await self.page.add_init_script(f"sessionStorage.setItem('sessions.name', '{name}')")
        await self.load(session)
        await expect(self.page.locator("#app")).to_be_visible()
        await self.connected()

    async def load(self, session: str = "") -> None:
        """Load the page, with a link to a session where one is given."""
        await self.page.goto(self.url + (f"/#{session}" if session else "/"))

    async def connected(self) -> None:
        """Wait until the page says that it is connected."""
        await expect(self.page.locator("#account")).to_contain_text("Connected", timeout=20_000)

    async def start_session(self, title: str, *invited: str) -> str:
        """Start a session with the dialog; returns its id."""
        await self.page.locator("#new-session").click()
        dialog = self.page.get_by_role("dialog", name="New session")
        await dialog.get_by_label("Title").fill(title)
        await dialog.get_by_label("Invite").fill(", ".join(invited))
        await self.page.get_by_role("button", name="Start session").click()
        await expect(self.title).to_have_text(title)
        return self.page.url.partition("#")[2]

    async def open_session(self, title: str) -> None:
        """Choose a session in the list."""
        await self.row(title).click()
        await expect(self.title).to_have_text(title)

    async def say(self, text: str) -> None:
        """Write a message and send it with Enter."""
        await self.composer.fill(text)
        await self.composer.press("Enter")

    async def say_quickly(self, texts: list[str]) -> None:
        """Write and send several messages as fast as the page goes along, some 50 a second."""
        await self.page.evaluate(
            """async (texts) => {
                 const composer = document.getElementById("composer");
                 for (const text of texts) {
                   composer.value = text;
                   composer.dispatchEvent(new Event("input", { bubbles: true }));
                   composer.form.requestSubmit();
                   await new Promise((resolve) => setTimeout(resolve, 20));
                 }
               }""",
            texts,
        )

    # -- what a person sees

    @property
    def composer(self) -> Locator:
        return self.page.locator("#composer")

    @property
    def title(self) -> Locator:
        return self.page.locator("#title")

    @property
    def messages(self) -> Locator:
        """The messages that are in the session."""
        return self.page.locator("#chunks .message")

    @property
    def waiting(self) -> Locator:
        """The messages on their way."""
        return self.page.locator("#waiting .message")

    @property
    def toasts(self) -> Locator:
        return self.page.locator(".toast")

    def message(self, text: str) -> Locator:
        return self.messages.filter(has_text=text)

    def row(self, title: str) -> Locator:
        """A session's line in the list."""
        return self.page.locator("nav a.row").filter(has_text=title)

    async def transcript(self) -> list[tuple[int, str]]:
        """Seq and text of every message, from top to bottom."""
        rows = await self.page.evaluate(
            """() => [...document.querySelectorAll("#chunks .message")].map((row) => {
                 const bubble = row.querySelector(".bubble").cloneNode(true);
                 bubble.querySelector(".bubble-meta")?.remove();
                 return [Number(row.dataset.seq), bubble.textContent];
               })"""
        )
        return [(seq, text) for seq, text in rows]

    # -- what went wrong

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if any(pattern.search(message.text) for pattern in self.tolerated):
            return
        self.faults.append(f"{message.type}: {message.text}")

    def _on_error(self, error: Error) -> None:
        self.faults.append(f"uncaught: {error}")
