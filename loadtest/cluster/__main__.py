"""`make cluster`: start everything, say where it is, end everything.

Exit codes: 0 ended by Ctrl-C or SIGTERM, 1 it could not start or all nodes have died, 2 called wrongly.
"""

import asyncio
import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import click
import uvloop

from loadtest.cluster.balancer import HOST, Balancer, Target
from loadtest.cluster.node import GatewayNode, PortTaken, listening
from loadtest.cluster.places import FolderInUse, Places, shared_places
from loadtest.servers.account import NoPlace
from loadtest.servers.binaries import ServerMissing
from loadtest.servers.child import ServerFailed
from loadtest.servers.ports import free_port

FAILED: Final = 1
# From the ports for clients to those for metrics and health.
OPS_BEYOND: Final = 100
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_READY_WITHIN_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.25


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(1, 20), help="Gateway nodes.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65_000),
    help="Port of the balancer. Nodes have the ports after it, 100 more for health. 0: free ports.",
)
@click.option(
    "--folder",
    default=Path("data/cluster"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Data and logs.",
)
@click.option("--keep/--discard", default=True, show_default=True, help="What becomes of the data.")
def main(nodes: int, port: int, folder: Path, keep: bool) -> None:
    """Run Postgres, Redis, gateway nodes and a TCP load balancer on this machine, until Ctrl-C."""
    told = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Remembered as well: where Python runs a finalizer at that moment, it drops what is raised.
        told.set()
        raise KeyboardInterrupt

    try:
        for number in _SIGNALS:
            signal.signal(number, interrupt)
        code = run(plan_targets(nodes, port), port, folder.resolve(), told, keep=keep)
    except KeyboardInterrupt:
        code = 0
    except (ServerMissing, ServerFailed, NoPlace, FolderInUse, PortTaken) as error:
        click.echo(f"Error: {error}", err=True)
        code = FAILED
    sys.exit(code)


def plan_targets(nodes: int, port: int) -> list[Target]:
    """Choose names and ports of the nodes."""
    if port == 0:
        return [Target(f"n{number}", free_port(), free_port()) for number in range(1, nodes + 1)]
    return [Target(f"n{number}", port + number, port + OPS_BEYOND + number) for number in range(1, nodes + 1)]


def run(targets: Sequence[Target], port: int, folder: Path, told: threading.Event, *, keep: bool) -> int:
    """Run a cluster until it is told to end, or has no node left; the exit code."""
    with ExitStack() as running:
        front = running.enter_context(listening(port))
        for target in targets:
            for taken in (target.port, target.ops_port):
                listening(taken).close()
        places = running.enter_context(shared_places(folder, keep=keep, tell=click.echo))
        nodes = running.enter_context(_nodes(targets, places, folder))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(serve(nodes, places, front, told))
        click.echo("ending")
    click.echo(f"ended; the data are kept in {folder}" if keep else "ended")
    return code


async def serve(
    nodes: Sequence[GatewayNode], places: Places, front: socket.socket, told: threading.Event
) -> int:
    """Balance until SIGINT or SIGTERM, telling of whoever dies; the exit code. ServerFailed."""
    stopped = asyncio.Event()
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    if told.is_set():
        stopped.set()
    async with Balancer([node.target for node in nodes], tell=click.echo) as balancer:
        await _until_ready(nodes, balancer, stopped)
        await balancer.start(front)
        for node in nodes:
            click.echo(f"{node.target.name:<16} {_urls(node)}")
        click.echo(f"{'open':<16} http://{HOST}:{balancer.port}")
        click.echo("Ctrl-C ends it all.")
        return await _watch(nodes, places, stopped)


async def _until_ready(nodes: Sequence[GatewayNode], balancer: Balancer, stopped: asyncio.Event) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while not stopped.is_set():
        await balancer.check()
        for node in nodes:
            if not node.is_running:
                raise ServerFailed(f"{node.target.name} did not start:\n{node.said()}")
        late = [node for node in nodes if not node.target.is_ready]
        if not late:
            return
        if time.monotonic() > deadline:
            raise ServerFailed(
                f"{late[0].target.name} was not ready in {_READY_WITHIN_S} s:\n{late[0].said()}"
            )
        await asyncio.sleep(0.1)


async def _watch(nodes: Sequence[GatewayNode], places: Places, stopped: asyncio.Event) -> int:
    told: set[str] = set()

    def tell_once(name: str, what: str) -> None:
        if name not in told:
            click.echo(f"{name} {what}", err=True)
        told.add(name)

    while not stopped.is_set():
        if not places.postgres.is_running:
            tell_once("Postgres", "has ended: nothing can be sent. End this and start it again.")
        if not places.redis.is_running:
            tell_once("Redis", "has ended: nodes hear of each other late. End this and start it again.")
        dead = [node for node in nodes if not node.is_running]
        for node in dead:
            tell_once(node.target.name, f"has ended with code {node.code}, the others go on: see {node.log}")
        if len(dead) == len(nodes):
            click.echo("No node is left.", err=True)
            return FAILED
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), _LOOK_EVERY_S)
    return 0


def _urls(node: GatewayNode) -> str:
    ops = f"http://{HOST}:{node.target.ops_port}"
    return f"http://{HOST}:{node.target.port}  ops {ops}  pid {node.pid}  log {node.log}"


@contextmanager
def _nodes(targets: Sequence[Target], places: Places, folder: Path) -> Iterator[list[GatewayNode]]:
    """Start the nodes; at the end tell all to stop, and wait for all. A second signal kills them."""
    nodes: list[GatewayNode] = []

    def hurry(number: int, frame: FrameType | None) -> None:
        for node in nodes:
            node.kill()

    with ExitStack() as ending:
        try:
            for target in targets:
                nodes.append(node := GatewayNode(target, places.settings, folder))
                ending.callback(node.wait)
            yield nodes
        finally:
            for number in _SIGNALS:
                signal.signal(number, hurry)
            for node in nodes:
                node.ask_to_stop()


if __name__ == "__main__":
    main()
