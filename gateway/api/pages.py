"""The chat page and its parts. All of it is read once, at start: what was not there then has no URL."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.headers import PAGE_HEADERS
from gateway.errors import NotFound

_WEB: Final = Path(__file__).parent / "web"
# A wheel carries the JavaScript client beside the page; a checkout has it where it is developed.
_CLIENT: Final = (_WEB / "client", Path(__file__).parents[2] / "clients" / "javascript" / "src")

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


class Asset(msgspec.Struct, frozen=True):
    """One file as it is served."""

    body: bytes
    media_type: str
    etag: str


class PageRoutes:
    """`/` and `/static/…`, from memory."""

    def __init__(self) -> None:
        self._assets = dict(_read_all())
        self._assets["index.html"] = _complete(self._assets)

    async def index(self, request: Request) -> Response:
        """GET / — the chat page."""
        return self._serve(request, "index.html")

    async def static(self, request: Request) -> Response:
        """GET /static/{path} — its parts."""
        return self._serve(request, request.path_params["path"])

    def routes(self) -> list[Route]:
        """Everything a browser loads."""
        return [Route("/", self.index), Route("/static/{path:path}", self.static)]

    def _serve(self, request: Request, path: str) -> Response:
        asset = self._assets.get(path)
        if asset is None:
            raise NotFound("There is nothing here.")
        headers = {**PAGE_HEADERS, "ETag": asset.etag}
        if asset.etag in _etags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        return Response(asset.body, headers={**headers, "Content-Type": asset.media_type})


def _etags(header: str) -> list[str]:
    # RFC 9110 13.1.2: If-None-Match compares weakly.
    return [tag.strip().removeprefix("W/") for tag in header.split(",")]


def _read_all() -> Iterator[tuple[str, Asset]]:
    yield from _read_folder("", _WEB)
    for folder in _CLIENT:
        if folder.is_dir():
            yield from _read_folder("client/", folder)
            return


def _complete(assets: Mapping[str, Asset]) -> Asset:
    page = assets["index.html"]
    # In the page itself: an icon that is first needed when the gateway is away could not be had any more.
    body = page.body.replace(b"<!-- icons.svg -->", assets["icons.svg"].body)
    # All modules at once: else each is asked for only when the one that imports it has arrived.
    modules = [path for path in assets if path.endswith(".js") and path != "js/theme.js"]
    links = "\n  ".join(f'<link rel="modulepreload" href="/static/{path}">' for path in modules)
    return _asset(body.replace(b"<!-- modules -->", links.encode()), page.media_type)


def _asset(body: bytes, media_type: str) -> Asset:
    return Asset(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _read_folder(prefix: str, folder: Path) -> Iterator[tuple[str, Asset]]:
    for path in sorted(folder.rglob("*")):
        media_type = _TYPES.get(path.suffix)
        if media_type is not None and path.is_file():
            yield prefix + path.relative_to(folder).as_posix(), _asset(path.read_bytes(), media_type)
