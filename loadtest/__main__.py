"""`python -m loadtest [COMMAND]`: measure, and print what was promised beside it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import click

from loadtest import contenders, scenarios
from loadtest.durable import durable
from loadtest.killed import killed
from loadtest.nodes import nodes
from loadtest.rolling import rolling
from loadtest.scenarios import Load, Samples
from loadtest.storm import storm
from loadtest.table import FLOOR, table, verdicts

Scenario = Callable[[Mapping[str, contenders.Start], Load], Awaitable[Samples]]

_EVERYTHING: Final = (scenarios.connect, scenarios.echo, scenarios.fanout)
_LIBRARIES: Final = ("picows", "node-ws", "websockets")
_USUAL: Final = (FLOOR, "edge", "gateway", "starlette")
_SERVERS: Final[Mapping[str, contenders.Start]] = {
    FLOOR: contenders.floor,
    "edge": contenders.edge,
    "gateway": contenders.whole,
    "starlette": contenders.plain,
    "picows": contenders.picows,
    "node-ws": contenders.node,
    "websockets": contenders.websockets,
}


def _measuring(command: Callable[[Load, tuple[str, ...]], None]) -> Callable[..., None]:
    """Give a command the options that all of them have."""

    @click.option("--connections", default=1000, show_default=True)
    @click.option("--size", default=128, show_default=True, help="Bytes of one message.")
    @click.option("--turns", default=15, show_default=True, help="How often each server has its turn.")
    @click.option("--rounds", default=30, show_default=True, help="Messages per sender in one turn.")
    @click.option("--server", "names", multiple=True, type=click.Choice([*_SERVERS]), help="Only these.")
    def run(connections: int, size: int, turns: int, rounds: int, names: tuple[str, ...]) -> None:
        command(Load(connections, size, turns, rounds), names)

    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    return run


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Measure the gateway against a floor in C and a plain Starlette endpoint. Without a command: all."""
    if context.invoked_subcommand is None:
        _measure(_EVERYTHING, Load(), _USUAL)
        context.invoke(durable)
        context.invoke(nodes)
        context.invoke(storm)


@main.command()
@_measuring
def connect(load: Load, names: tuple[str, ...]) -> None:
    """CPU to open a connection, memory to keep it."""
    _measure((scenarios.connect,), load, names or _USUAL)


@main.command()
@_measuring
def echo(load: Load, names: tuple[str, ...]) -> None:
    """CPU to receive a message and send it back."""
    _measure((scenarios.echo,), load, names or _USUAL)


@main.command()
@_measuring
def fanout(load: Load, names: tuple[str, ...]) -> None:
    """CPU per delivery of a message that goes to all; with one and with 16 messages waiting per socket."""
    _measure((scenarios.fanout,), load, names or _USUAL)


@main.command()
@_measuring
def libraries(load: Load, names: tuple[str, ...]) -> None:
    """What the choice of a WebSocket library rests on."""
    _measure(_EVERYTHING, load, names or (FLOOR, "edge", *_LIBRARIES, "starlette"))


main.add_command(durable)
main.add_command(killed)
main.add_command(nodes)
main.add_command(rolling)
main.add_command(storm)


def _measure(what: tuple[Scenario, ...], load: Load, names: tuple[str, ...]) -> None:
    asyncio.run(_measured(what, load, names))


async def _measured(what: tuple[Scenario, ...], load: Load, names: tuple[str, ...]) -> None:
    samples: Samples = {name: {} for name in names}
    for scenario in what:
        # The gateway echoes nothing.
        starts = {name: _SERVERS[name] for name in names if (name, scenario) != ("gateway", scenarios.echo)}
        for name, figures in (await scenario(starts, load)).items():
            samples[name] |= figures
    click.echo(
        f"{load.connections} connections, messages of {load.size} bytes, median of {load.turns} turns\n"
    )
    for line in (*table(samples), "", *verdicts(samples)):
        click.echo(line)


if __name__ == "__main__":
    main()
