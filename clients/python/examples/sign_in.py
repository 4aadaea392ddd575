"""A token for the examples: CHAT_TOKEN, or one by name from a gateway on this machine."""

import asyncio
import json
import os
import urllib.request

GATEWAY = os.environ.get("CHAT_GATEWAY", "http://127.0.0.1:8000")
SOCKET = GATEWAY.replace("http", "ws", 1) + "/ws"


async def get_token(user: str) -> str:
    """Give a token for `user`; what `token_provider` wants is `lambda: get_token("alice")`."""
    if given := os.environ.get("CHAT_TOKEN"):
        return given
    return await asyncio.to_thread(_ask, user)


def _ask(user: str) -> str:
    # Tokens by name are for pages of the gateway itself; a program may say that it is one, a page elsewhere
    # may not.
    headers = {"Content-Type": "application/json", "Origin": GATEWAY}
    body = json.dumps({"user": user}).encode()
    request = urllib.request.Request(f"{GATEWAY}/api/v1/demo/token", body, headers)  # noqa: S310 - the reader's own
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        token: str = json.load(answer)["data"]["token"]
        return token
