"""The page and its parts as files: types, caching, and nothing beyond them."""

import re
from pathlib import Path

import pytest

from tests.api.conftest import Api, problem_of

WEB = Path(__file__).parents[2] / "gateway" / "api" / "web"


async def test_the_page_is_served_at_the_root(api: Api) -> None:
    response = await api.call("GET", "/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "connect-src 'self'" in policy
    assert "require-trusted-types-for 'script'" in policy


async def test_everything_the_page_names_is_there(api: Api) -> None:
    html = (await api.call("GET", "/")).text
    named = set(re.findall(r'(?:src|href)="(/static/[^"#]+)', html))
    assert len(named) >= 8
    for path in named:
        assert (await api.call("GET", path)).status_code == 200, path


async def test_every_module_that_a_module_imports_is_there(api: Api) -> None:
    waiting, seen = ["/static/js/main.js"], set[str]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        response = await api.call("GET", path)
        assert response.status_code == 200, path
        assert response.headers["content-type"] == "text/javascript; charset=utf-8"
        for target in re.findall(r'(?:from|import) "([^"]+)"', response.text):
            base = path.rsplit("/", 1)[0]
            waiting.append(target if target.startswith("/") else f"{base}/{target.removeprefix('./')}")
    assert "/static/client/index.js" in seen
    assert len(seen) > 30


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    html = (WEB / "index.html").read_text()
    assert not re.findall(r"<script(?![^>]*\bsrc=)", html)
    assert "<style" not in html
    assert not re.findall(r"\s(?:style|on\w+)=", html)
    for path in WEB.rglob("*.*"):
        text = path.read_text()
        without_names = text.replace("http://www.w3.org/2000/svg", "")
        assert not re.findall(r"""["'(]https?://""", without_names), path
        assert "innerHTML" not in text, path
        assert "insertAdjacentHTML" not in text, path


def test_every_icon_that_is_used_is_in_the_sprite() -> None:
    sprite = set(re.findall(r'<symbol id="i-([\w-]+)"', (WEB / "icons.svg").read_text()))
    html = (WEB / "index.html").read_text()
    used = set(re.findall(r"#i-([\w-]+)", html))
    for path in (WEB / "js").glob("*.js"):
        used |= set(re.findall(r"""(?:\bicon\(|\bicon: )"([\w-]+)\"""", path.read_text()))
    assert "send" in used
    assert "clock" in used
    assert used <= sprite


async def test_an_unchanged_file_is_not_sent_again(api: Api) -> None:
    first = await api.call("GET", "/static/css/tokens.css")
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    for sent in (etag, f'"other", {etag}', f"W/{etag}"):
        again = await api.call("GET", "/static/css/tokens.css", headers={"If-None-Match": sent})
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["etag"] == etag
    other = await api.call("GET", "/static/css/tokens.css", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/%2e%2e",
        "/static/../routes.py",
        "/static/%2e%2e/routes.py",
        "/static/..%2froutes.py",
        "/static/js/../../routes.py",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/js",
        "/static/js/",
        "/static/js/main.js/",
        "/static/js%5cmain.js",
        "/static/index.html%00",
        "/static/client/../../../../pyproject.toml",
    ],
)
async def test_there_is_no_way_out_of_the_folder(api: Api, path: str) -> None:
    problem_of(await api.call("GET", path), 404, "not_found")


def test_scripts_and_sheets_stay_readable() -> None:
    for path in [*WEB.rglob("*.js"), *WEB.rglob("*.css")]:
        assert len(path.read_text().splitlines()) <= 450, path
