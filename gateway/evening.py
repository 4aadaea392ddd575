"""`gateway rebalance`: asks a node of this machine to even all nodes out, and tells how far that has come."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.exchange import ExchangeFailed, Question, exchange

PATH: Final = "/api/v1/nodes/rebalance"
NODES: Final = "/api/v1/nodes"
LOOK_S: Final = 1.0
# Each node says every 2 s how many connections it has: before that the counts are of a moment before the end.
COUNTED_S: Final = 3.0
# A node that does not answer is asked again, and for no longer than this.
PATIENCE: Final = 5
_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 1 << 20


class CannotEvenOut(Exception):
    """It was not done; the message says why, and what to do."""


async def even_out(ops_url: str, tell: Callable[[str], None]) -> None:
    """Begin, or join one that is under way, and return when it is over. CannotEvenOut."""
    try:
        answer = await exchange(ops_url + PATH, Question("POST"), timeout_s=_TIMEOUT_S)
    except ExchangeFailed as error:
        raise CannotEvenOut(_unreachable(ops_url, str(error))) from error
    if answer.status != 202:
        told = f"The node at {ops_url} refuses, with {answer.status}: ask one on this machine, with Redis up."
        raise CannotEvenOut(told)
    said = ""
    while True:
        state = await _look(ops_url + PATH)
        if (line := _progress(state)) != said:
            tell(line)
            said = line
        if state["state"] == "abandoned":
            raise CannotEvenOut(f"Node {state['node']}, which saw to it, was stopped: run this again.")
        if state["state"] != "running":
            await asyncio.sleep(COUNTED_S)
            tell(f"done: {_shares(await _look(ops_url + NODES))}")
            return
        await asyncio.sleep(LOOK_S)


async def _look(url: str) -> dict[str, Any]:
    why = ""
    for _ in range(PATIENCE):
        try:
            answer = await exchange(url, Question("GET"), timeout_s=_TIMEOUT_S, most_bytes=_MOST_BYTES)
        except ExchangeFailed as error:
            why = str(error)
        else:
            if answer.status == 200:
                state: dict[str, Any] = msgspec.json.decode(answer.body)["data"]
                if state.get("state") != "none":
                    return state
                # Begun on another node, which writes it to Redis again if that has lost its data.
                why = "it knows of no rebalancing"
            else:
                why = f"it answers {answer.status}"
        await asyncio.sleep(LOOK_S)
    raise CannotEvenOut(_unreachable(url, why) + " Who was asked to move does so all the same.")


def _unreachable(url: str, why: str) -> str:
    return f"No node answers at {url} ({why}): is it the operations port of a node on this machine?"


def _progress(state: dict[str, Any]) -> str:
    to_go = state["not_asked"] + state["waiting"]
    return (
        f"{state['moved']} of {state['to_move']} moved, {state['refused']} refused,"
        f" {state['timed_out']} timed out, {to_go} to go"
    )


def _shares(register: dict[str, Any]) -> str:
    return ", ".join(f"{node['id']} {node['connections']}" for node in register["nodes"])
