"""Settings of the webhook: safe on the way, signed, and not shown."""

import pytest

from gateway.settings import effective, load, read
from tests.test_settings import SECRET, problem

OTHER = "another secret of more than thirty-two bytes"


def test_a_webhook_is_reached_over_https_or_on_this_machine() -> None:
    for url in (
        "https://hooks.example/in?key=1",
        "http://127.0.0.1:9/",
        "http://localhost",
        "http://[::1]:80/x",
    ):
        assert load({"GATEWAY_WEBHOOK_URL": url, "GATEWAY_WEBHOOK_SECRET": SECRET}).webhook_url == url
    for url in ("http://hooks.example/", "ftp://127.0.0.1/", "file:///etc/passwd", "http://169.254.169.254/"):
        assert "https" in problem(WEBHOOK_URL=url, WEBHOOK_SECRET=SECRET)


@pytest.mark.parametrize(
    "url",
    [
        "hooks",
        "https://",
        "https://user:hush@hooks/",
        "https://hooks/#hush",
        "https://hooks/a hush",
        "https://h:hush",
    ],
)
def test_no_error_repeats_the_address_of_a_webhook(url: str) -> None:
    said = problem(WEBHOOK_URL=url, WEBHOOK_SECRET=SECRET)
    assert said.startswith("GATEWAY_WEBHOOK_URL")
    assert "hush" not in said


def test_a_webhook_has_one_secret_or_two_while_they_change() -> None:
    url = {"GATEWAY_WEBHOOK_URL": "https://hooks.example"}
    assert load({**url, "GATEWAY_WEBHOOK_SECRET": SECRET}).webhook_secret == (SECRET,)
    both = load({**url, "GATEWAY_WEBHOOK_SECRET": f"{SECRET}, {OTHER}\n"})
    assert both.webhook_secret == (SECRET, OTHER)
    said = problem(WEBHOOK_URL="https://hooks.example", WEBHOOK_SECRET=f"{SECRET},{OTHER},{SECRET}")
    assert "holds 3 secrets" in said
    for short in ("hush", f"{SECRET},hush", ","):
        said = problem(WEBHOOK_URL="https://hooks.example", WEBHOOK_SECRET=short)
        assert "hush" not in said


def test_address_and_secret_belong_together() -> None:
    assert "belong together" in problem(WEBHOOK_URL="https://hooks.example")
    assert "belong together" in problem(WEBHOOK_SECRET=SECRET)


def test_a_webhook_shows_neither_its_secret_nor_its_path() -> None:
    environ = {"GATEWAY_WEBHOOK_URL": "https://hooks.example:9/hush?a=hush", "GATEWAY_WEBHOOK_SECRET": SECRET}
    reading = read(environ)
    shown = {each.name: each.value for each in effective(reading)}
    assert shown["GATEWAY_WEBHOOK_URL"] == "https://hooks.example:9/…"
    assert shown["GATEWAY_WEBHOOK_SECRET"] == "***"
    for text in (repr(reading), str(effective(reading))):
        assert "hush" not in text
        assert SECRET not in text
