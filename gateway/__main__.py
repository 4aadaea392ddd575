"""The commands. Each says in one sentence what went wrong, and ends with a code a script can act on."""

import sys
from typing import TYPE_CHECKING, Final, NoReturn

import click
import msgspec

from gateway import __version__
from gateway.errors import GatewayError
from gateway.settings import Settings, SettingsError, effective, load, read
from store.errors import StoreError

if TYPE_CHECKING:
    from gateway.server import Facts

# 0: done. 1: it could not be done, or the doctor found a problem. 2: called or configured wrongly.
FAILED: Final = 1
MISUSED: Final = 2

_EPILOG: Final = (
    "Everything is set by GATEWAY_* variables; `gateway settings` lists them."
    " Exit codes: 0 done, 1 failed, 2 called or configured wrongly."
)


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Sessions over WebSockets that outlast sockets, processes and machines."""


@main.command()
def serve() -> None:
    """Serve until SIGTERM or SIGINT, then let everybody move away; a second signal hurries."""
    from gateway import server
    from gateway.app import open_gateway
    from gateway.telemetry import logs

    settings = _settings()
    logs.configure(settings.log_format, settings.log_level)
    try:
        server.run(settings, open_gateway(settings), _announce)
    except SettingsError as error:
        _misconfigured(error)
    except server.CannotServe as error:
        _fail(str(error))


@main.command()
@click.option("--finish", is_flag=True, help="Do what older nodes could not bear, once none of them runs.")
def migrate(finish: bool) -> None:
    """Bring the database up to date. SQLite is brought up to date by `serve` as well; Postgres by this alone:
    before the first node of a new version starts, and with --finish when the last old one is gone.
    """
    from gateway.places import places_of
    from store.open import migrate_log

    places = places_of(_settings())
    try:
        applied = migrate_log(places, finish=finish)
    except (StoreError, OSError) as error:
        where = f" in {places.data_dir}" if places.database_url is None else ""
        _fail(f"The database{where} was not migrated: {error}.")
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("The database is up to date.")


@main.command()
@click.option("--user", required=True, help="Whom the token speaks for.")
@click.option("--tenant", default="default", show_default=True, help="The tenant of the user.")
@click.option(
    "--scope", "scopes", multiple=True, metavar="NAME", help="What it allows, e.g. operator. Repeatable."
)
@click.option("--ttl", "ttl_s", default=3600, show_default=True, metavar="SECONDS", help="Its life.")
def token(user: str, tenant: str, scopes: tuple[str, ...], ttl_s: int) -> None:
    """Print a token, signed with the configured secret or the development key."""
    from gateway.auth.tokens import Tokens
    from gateway.clock import SystemClock

    try:
        tokens = Tokens.from_settings(_settings(), SystemClock())
        click.echo(tokens.mint(user, tenant, ttl_s, scopes))
    except SettingsError as error:
        _misconfigured(error)
    except GatewayError as error:
        _fail(error.message)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def settings(as_json: bool) -> None:
    """Print every setting in force and where it is from. Secrets are masked."""
    try:
        shown = effective(read())
    except SettingsError as error:
        _misconfigured(error)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=1))
        return
    name_width = max(len(each.name) for each in shown)
    value_width = min(40, max(len(each.value) for each in shown))
    for each in shown:
        click.echo(f"{each.name:<{name_width}}  {each.value:<{value_width}}  {each.source}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def doctor(as_json: bool) -> None:
    """Examine settings, data, ports and machine; say what to do about what is wrong. Changes nothing."""
    from gateway.doctor.examination import examine
    from gateway.telemetry import logs

    logs.configure(level="error")  # what is found is the answer, not a line of log beside it
    findings = examine()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings), indent=1))
    else:
        for each in findings:
            click.echo(f"{each.state:<8} {each.check:<16} {each.found}")
            if each.advice:
                click.echo(f"{'':<8} {'':<16} → {each.advice}")
    if any(each.state == "problem" for each in findings):
        raise SystemExit(FAILED)


@main.command()
@click.option(
    "--port", "ops_port", type=click.IntRange(1, 65535), help="Operations port of a node on this machine."
)
def rebalance(ops_port: int | None) -> None:
    """Even out the connections of all nodes, after one more has come: the surplus is asked to move, 10 a
    second from each node. A node of this machine is asked, by default the one at GATEWAY_OPS_PORT; it goes on
    without this command. Exit code 0: it is over, whatever clients made of it; 1: nobody could be asked.
    """
    import asyncio

    from gateway.evening import CannotEvenOut, even_out

    port = _settings().ops_port if ops_port is None else ops_port
    try:
        asyncio.run(even_out(f"http://127.0.0.1:{port}", click.echo))
    except CannotEvenOut as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("No longer looked on: it goes on by itself.")


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(f"session-gateway {__version__}")


def _announce(facts: "Facts") -> None:
    """Tell whoever started the gateway where it is: a person in words, a log collector as one event."""
    import structlog

    from gateway.telemetry.logs import is_for_a_person

    if is_for_a_person(facts.settings.log_format, sys.stdout):
        click.echo("\n".join(facts.lines()))
        return
    structlog.stdlib.get_logger("gateway").info(
        "ready",
        url=facts.url,
        ops_url=facts.ops_url,
        node=facts.settings.node_id,
        sign_in=facts.sign_in,
        database=facts.data,
        others=facts.others,
        version=__version__,
    )


def _settings() -> Settings:
    try:
        return load()
    except SettingsError as error:
        _misconfigured(error)


def _misconfigured(error: SettingsError) -> NoReturn:
    for problem in error.problems:
        click.echo(f"Error: {problem}", err=True)
    raise SystemExit(MISUSED)


def _fail(sentence: str) -> NoReturn:
    click.echo(f"Error: {sentence}", err=True)
    raise SystemExit(FAILED)


if __name__ == "__main__":
    main()
