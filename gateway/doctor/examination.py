"""The whole examination, in order. Nothing is changed by it."""

import asyncio
from collections.abc import Iterator

from gateway.auth.jwks import PublishedKeys
from gateway.auth.keys import BadKey, from_pem
from gateway.clock import SystemClock
from gateway.doctor.finding import Finding
from gateway.doctor.machine import clock, files, folder, port
from gateway.doctor.stores import stores
from gateway.errors import Unavailable
from gateway.settings import Settings, SettingsError, load


def examine() -> list[Finding]:
    """Look at everything; with wrong settings, at those alone."""
    try:
        settings = load()
    except SettingsError as error:
        return [Finding("settings", "problem", problem, "correct it") for problem in error.problems]
    return [
        Finding("settings", "ok", "complete"),
        _credentials(settings),
        *_own_folder(settings),
        *stores(settings),
        port("port", settings.host, settings.port, "GATEWAY_PORT"),
        port("operations port", settings.ops_host, settings.ops_port, "GATEWAY_OPS_PORT"),
        files(),
        clock(settings.data_dir),
    ]


def _own_folder(settings: Settings) -> Iterator[Finding]:
    """The data folder, where anything is kept in it."""
    if settings.database_url is None or not settings.has_credentials:
        yield from folder(settings.data_dir)


def _credentials(settings: Settings) -> Finding:
    if settings.jwt_public_key is not None:
        try:
            key = from_pem(settings.jwt_public_key)
        except BadKey as error:
            return Finding(
                "credentials", "problem", f"the public key cannot be used: {error}", "give another one"
            )
        return Finding("credentials", "ok", f"a public key for {key.algorithm}")
    if settings.jwks_url is not None:
        return asyncio.run(_key_set(settings.jwks_url))
    if settings.jwt_secret is not None:
        return Finding("credentials", "ok", "a secret for HS256")
    advice = "set GATEWAY_JWT_SECRET, GATEWAY_JWT_PUBLIC_KEY or GATEWAY_JWKS_URL for more than trying it out"
    return Finding("credentials", "note", "development mode: anybody on this machine, by any name", advice)


async def _key_set(url: str) -> Finding:
    keys = PublishedKeys(url, SystemClock())
    try:
        await keys.find("a name no key has")
    except Unavailable:
        return Finding("credentials", "problem", f"no usable keys at {url}", "check the URL and the network")
    finally:
        await keys.close()
    return Finding("credentials", "ok", f"keys are published at {url}")
