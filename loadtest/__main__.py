"""`python -m loadtest [connect|echo|fanout|durable]`: measure, and print the ratios that are promised."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import click

from loadtest import scenarios, servers
from loadtest.durable import durable
from loadtest.scenarios import BATCH, ECHO, FIGURES, OPEN, RSS, SINGLE, Figures, Load

Scenario = Callable[[servers.Start, Load], Awaitable[Figures]]

_SERVERS: dict[str, servers.Start] = {
    "floor (C, epoll)": servers.floor,
    "edge": servers.edge,
    "gateway": servers.whole,
    "starlette": servers.plain,
}
_LIBRARIES: dict[str, servers.Start] = {
    "picows alone": servers.picows,
    "Node ws": servers.node,
    "websockets": servers.websockets,
}
_FLOOR = "floor (C, epoll)"

# The floor allocates 64 KiB for each connection and reads HTTP with strstr: neither says anything.
_PROMISED: Mapping[tuple[str, str], float] = {
    ("gateway", SINGLE): 1.6,
    ("gateway", BATCH): 0.2,
}
_PROMISED_KIB: Mapping[str, float] = {"gateway": 14.0}


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--connections", default=1000, show_default=True),
        click.option("--size", default=128, show_default=True, help="Bytes of one message."),
        click.option("--rounds", default=200, show_default=True),
        click.option("--repeats", default=3, show_default=True, help="How often each server has its turn."),
        click.option(
            "--server",
            "chosen",
            multiple=True,
            type=click.Choice([*_SERVERS, *_LIBRARIES]),
            help="Only these.",
        ),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Measure the gateway against a floor in C and a plain Starlette endpoint. Without a command: all."""
    if context.invoked_subcommand is None:
        everything = (scenarios.connect, scenarios.echo, scenarios.fanout)
        _measure(everything, Load(), 3, ())
        context.invoke(durable)


@main.command()
@_options
def connect(connections: int, size: int, rounds: int, repeats: int, chosen: tuple[str, ...]) -> None:
    """CPU to open a connection, memory to keep it."""
    _measure((scenarios.connect,), Load(connections, size, rounds), repeats, chosen)


@main.command()
@_options
def echo(connections: int, size: int, rounds: int, repeats: int, chosen: tuple[str, ...]) -> None:
    """CPU to receive a message and send it back."""
    _measure((scenarios.echo,), Load(connections, size, rounds), repeats, chosen)


@main.command()
@_options
def fanout(connections: int, size: int, rounds: int, repeats: int, chosen: tuple[str, ...]) -> None:
    """CPU per delivery of a message that goes to all; with one and with 16 messages waiting per socket."""
    _measure((scenarios.fanout,), Load(connections, size, rounds), repeats, chosen)


@main.command()
@_options
def libraries(connections: int, size: int, rounds: int, repeats: int, chosen: tuple[str, ...]) -> None:
    """What the choice of a WebSocket library rests on: all of them, in everything."""
    everything = (scenarios.connect, scenarios.echo, scenarios.fanout)
    names = chosen or (_FLOOR, "edge", *_LIBRARIES, "starlette")
    _measure(everything, Load(connections, size, rounds), repeats, names)


main.add_command(durable)


def _measure(what: tuple[Scenario, ...], load: Load, repeats: int, chosen: tuple[str, ...]) -> None:
    best: dict[str, Figures] = {name: {} for name in chosen or _SERVERS}
    for turn in range(repeats):
        for name, figures in best.items():
            for scenario in what:
                if (name, scenario) == ("gateway", scenarios.echo):
                    continue
                click.echo(f"\r{turn + 1}/{repeats} {name:20} {scenario.__name__:10}", nl=False, err=True)
                for figure, value in asyncio.run(_run(scenario, name, load)).items():
                    figures[figure] = min(value, figures.get(figure, value))
    click.echo("\r" + " " * 50 + "\r", nl=False, err=True)
    click.echo(f"{load.connections} connections, messages of {load.size} bytes, best of {repeats}")
    for line in table(best):
        click.echo(line)


async def _run(scenario: Scenario, name: str, load: Load) -> Figures:
    return await scenario((_SERVERS | _LIBRARIES)[name], load)


def table(best: Mapping[str, Figures]) -> list[str]:
    """Lay out the figures, as Markdown: each with its multiple of the floor's, where there is a floor."""
    shown = [figure for figure in FIGURES if any(figure in figures for figures in best.values())]
    heads = {
        ECHO: "echo µs",
        SINGLE: "delivery µs",
        BATCH: "delivery µs, 16 waiting",
        OPEN: "open µs",
        RSS: "KiB",
    }
    columns = ["server", *(heads[figure] for figure in shown)]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, figures in best.items():
        cells = [_cell(best, name, figure) if figure in figures else "–" for figure in shown]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines + _verdicts(best)


def _cell(best: Mapping[str, Figures], name: str, figure: str) -> str:
    value, base = best[name][figure], _base(best, figure)
    if name == _FLOOR and figure in (OPEN, RSS):
        return "–"
    return f"{value:.2f}" if figure in (OPEN, RSS) or base is None else f"{value:.2f} ({value / base:.2f} ×)"


def _base(best: Mapping[str, Figures], figure: str) -> float | None:
    # A message of a batch is compared with one delivery of the floor, which sends each by itself.
    return best.get(_FLOOR, {}).get(SINGLE if figure == BATCH else figure)


def _verdicts(best: Mapping[str, Figures]) -> list[str]:
    lines = []
    for (name, figure), most in _PROMISED.items():
        base = _base(best, figure)
        if base is not None and figure in best.get(name, {}):
            ratio = best[name][figure] / base
            lines.append(f"{name}, {figure}: {ratio:.2f} × the floor, promised {most} ×{_miss(ratio > most)}")
    for name, most in _PROMISED_KIB.items():
        if RSS in best.get(name, {}):
            value = best[name][RSS]
            lines.append(
                f"{name}, idle connection: {value:.1f} KiB, promised {most} KiB{_miss(value > most)}"
            )
    return ["", *lines] if lines else []


def _miss(is_missed: bool) -> str:
    return "  MISSED" if is_missed else ""


if __name__ == "__main__":
    main()
