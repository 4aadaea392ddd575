"""The commands as a person or a script runs them: what they print, and the code they end with."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import click
import jwt
import pytest

from gateway.__main__ import main
from gateway.settings_table import described
from tests.auth.makers import PRIVATE, pem
from tests.process import ROOT, GatewayProcess, free_port

SECRET = "a secret of more than thirty-two bytes"
COMMANDS = ("serve", "migrate", "token", "settings", "doctor", "rebalance", "version")


def environment(data: Path, **settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    given = {f"GATEWAY_{name}": value for name, value in settings.items()}
    return clean | {"GATEWAY_DATA_DIR": str(data), "PYTHONPATH": str(ROOT)} | given


def gateway(*arguments: str, data: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "gateway", *arguments),
        cwd=data,
        env=environment(data / "data", **settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def findings(data: Path, **settings: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Run the doctor; its code, and what it found by check."""
    settings = {"PORT": str(free_port()), "OPS_PORT": str(free_port())} | settings
    done = gateway("doctor", "--json", data=data, **settings)
    return done.returncode, {each["check"]: each for each in json.loads(done.stdout)}


# -- all of them


def test_every_command_explains_itself(tmp_path: Path) -> None:
    assert set(main.commands) == set(COMMANDS)
    for command in COMMANDS:
        with click.Context(main.commands[command]) as context:
            assert len(main.commands[command].get_help(context)) > 60
    done = gateway("--help", data=tmp_path)
    assert done.returncode == 0
    assert "Exit codes: 0 done, 1 failed, 2 called or" in re.sub(r"\s+", " ", done.stdout)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "version"])
def test_wrong_settings_are_sentences_and_code_2(tmp_path: Path, command: str) -> None:
    arguments = (command, "--user", "alice") if command == "token" else (command,)
    done = gateway(*arguments, data=tmp_path, PROT="1", SWEEP_S="x")
    said = done.stdout + done.stderr
    assert "GATEWAY_PROT is not a setting; the nearest is GATEWAY_PORT." in said
    assert "GATEWAY_SWEEP_S='x' is not a number" in said
    assert "Traceback" not in said
    assert done.returncode == (1 if command == "doctor" else 2)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "arguments", [("serv",), ("token",), ("settings", "--jsn"), ("token", "--user", "a", "--ttl", "x")]
)
def test_a_wrong_call_is_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = gateway(*arguments, data=tmp_path)
    assert done.returncode == 2
    assert "Error" in done.stderr
    assert "Traceback" not in done.stderr


def test_version_is_quick_and_touches_nothing(tmp_path: Path) -> None:
    done = gateway("version", data=tmp_path, PROT="1")
    assert re.fullmatch(r"session-gateway \d+\.\d+\.\d+\n", done.stdout)
    assert not (tmp_path / "data").exists()


# -- settings


def test_settings_are_printed_with_where_they_are_from_and_secrets_masked(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    done = gateway("settings", data=tmp_path, JWT_SECRET_FILE=str(tmp_path / "secret"), PORT="9000")
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert set(lines) == {each.name for each in described().values()}
    assert lines["GATEWAY_PORT"][1:] == ["9000", "environment"]
    assert lines["GATEWAY_JWT_SECRET"][1:] == ["***", "file"]
    assert lines["GATEWAY_HOST"][1:] == ["127.0.0.1", "default"]
    assert SECRET not in done.stdout + done.stderr


def test_settings_are_printed_for_programs_too(tmp_path: Path) -> None:
    done = gateway("settings", "--json", data=tmp_path, JWT_SECRET=SECRET)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["GATEWAY_JWT_SECRET"] == {
        "name": "GATEWAY_JWT_SECRET",
        "value": "***",
        "source": "environment",
    }


# -- token


def test_a_token_is_minted_with_the_secret(tmp_path: Path) -> None:
    arguments = ("--user", "alice", "--tenant", "acme", "--scope", "operator", "--scope", "x", "--ttl", "60")
    done = gateway("token", *arguments, data=tmp_path, JWT_SECRET=SECRET, JWT_ISSUER="me")
    claims = jwt.decode(done.stdout.strip(), SECRET, ["HS256"], audience="session-gateway", issuer="me")
    assert (claims["sub"], claims["tenant"], claims["scope"]) == ("alice", "acme", "operator x")
    assert claims["exp"] - claims["iat"] == 60
    assert not (tmp_path / "data").exists()


def test_without_a_secret_the_development_key_is_made_and_used(tmp_path: Path) -> None:
    done = gateway("token", "--user", "alice", data=tmp_path)
    key = (tmp_path / "data" / "dev-key").read_text().strip()
    assert jwt.decode(done.stdout.strip(), key, ["HS256"], audience="session-gateway")["sub"] == "alice"


def test_what_cannot_be_minted_is_one_sentence(tmp_path: Path) -> None:
    for settings, arguments, sentence in (
        ({"JWT_PUBLIC_KEY": pem(PRIVATE["EdDSA"])}, (), "by whoever holds the private key"),
        ({"JWT_SECRET": SECRET}, ("--tenant", "a b"), "is named by 1 to 64"),
        ({"JWT_SECRET": SECRET}, ("--ttl", "0"), "a token lives 1 to"),
    ):
        done = gateway("token", "--user", "alice", *arguments, data=tmp_path, **settings)
        assert (done.returncode, done.stdout) == (1, "")
        assert sentence in done.stderr
        assert len(done.stderr.splitlines()) == 1


# -- migrate


def test_migrate_makes_the_database_and_says_so_once(tmp_path: Path) -> None:
    first, second = gateway("migrate", data=tmp_path), gateway("migrate", data=tmp_path)
    assert first.returncode == second.returncode == 0
    assert "applied 0001_" in first.stdout
    assert second.stdout == "The database is up to date.\n"


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    gateway("migrate", data=tmp_path)
    with sqlite3.connect(tmp_path / "data" / "gateway.db") as db:
        db.execute("INSERT INTO schema_migrations VALUES (999, '0999_later.sql', 'x', 0)")
    db.close()
    for command in ("migrate", "serve"):
        done = gateway(command, data=tmp_path, PORT="0", OPS_PORT="0")
        assert done.returncode == 1
        assert "schema 999" in done.stderr
        assert "Traceback" not in done.stderr


# -- serve


async def test_serve_answers_until_it_is_told_to_stop(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path / "data") as process:
        assert process.url in process.output
        assert process.ops_url in process.output
        assert str(tmp_path / "data") in process.output
        assert "development mode: anybody on this machine" in process.output
        code, found = findings(tmp_path, PORT=str(process.port), OPS_PORT=str(process.ops_port))
        assert code == 0, found
        assert "a gateway answers" in found["port"]["found"]
        assert "a gateway answers" in found["operations port"]["found"]
        assert found["database"]["state"] == "ok"
        again = gateway("serve", data=tmp_path, PORT=str(process.port))
        assert again.returncode == 1
        taken = f"Error: Port {process.port} on 127.0.0.1 is taken: stop the other program, or"
        assert again.stderr == f"{taken} change GATEWAY_PORT.\n"
        beside = gateway("serve", data=tmp_path, PORT="0", OPS_PORT="0")
        assert beside.returncode == 1
        assert f"process {process.pid}" in beside.stderr
        assert await process.terminate() == 0
    assert "Traceback" not in process.output


async def test_a_key_made_at_the_first_start_is_kept_and_its_owners_alone(tmp_path: Path) -> None:
    key = tmp_path / "data" / "dev-key"
    async with GatewayProcess(tmp_path / "data") as process:
        made = key.read_text()
        assert key.stat().st_mode & 0o777 == 0o600
        await process.restart()
        assert key.read_text() == made
        assert made.strip() not in process.output


def test_serve_prints_the_real_port_for_a_person(tmp_path: Path) -> None:
    process = subprocess.Popen(
        (sys.executable, "-m", "gateway", "serve"),
        env=environment(tmp_path / "data", PORT="0", OPS_PORT="0", LOG_FORMAT="console"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(5)]
        port = int(re.search(r"open +http://127\.0\.0\.1:(\d+)", "".join(said)).group(1))  # type: ignore[union-attr]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_another_address_without_a_credential_is_refused(tmp_path: Path) -> None:
    done = gateway("serve", data=tmp_path, HOST="0.0.0.0")  # noqa: S104
    assert done.returncode == 2
    assert "set one of GATEWAY_JWT_SECRET" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_key_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    broken = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
    done = gateway("serve", data=tmp_path, JWT_PUBLIC_KEY=broken, PORT="0", OPS_PORT="0")
    assert done.returncode == 2
    assert (
        done.stderr
        == "Error: GATEWAY_JWT_PUBLIC_KEY cannot be used: it cannot be read as a PEM public key.\n"
    )


# -- doctor


def test_on_a_fresh_machine_the_doctor_is_content_and_changes_nothing(tmp_path: Path) -> None:
    code, found = findings(tmp_path)
    assert code == 0
    assert {each["state"] for each in found.values()} <= {"ok", "note"}
    assert found["credentials"]["state"] == "note"
    assert set(found) == {
        "settings",
        "credentials",
        "data folder",
        "free space",
        "database",
        "port",
        "operations port",
        "open files",
        "clock",
    }
    assert not list(tmp_path.iterdir())


def test_the_doctor_talks_to_people_too(tmp_path: Path) -> None:
    done = gateway("doctor", data=tmp_path, PORT=str(free_port()), OPS_PORT=str(free_port()))
    assert done.returncode == 0
    assert re.search(r"^note +credentials +development mode", done.stdout, re.MULTILINE)
    assert re.search(r"^ +→ set GATEWAY_JWT_SECRET", done.stdout, re.MULTILINE)


def test_a_port_taken_by_something_else_is_found(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, found = findings(tmp_path, PORT=str(other.getsockname()[1]))
    assert code == 1
    assert found["port"]["state"] == "problem"
    assert "change GATEWAY_PORT" in found["port"]["advice"]


def test_a_damaged_database_is_found(tmp_path: Path) -> None:
    gateway("migrate", data=tmp_path)
    path = tmp_path / "data" / "gateway.db"
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 6] = b"\xff" * 4096 * 4
    path.write_bytes(content)
    code, found = findings(tmp_path)
    assert code == 1
    assert found["database"]["state"] == "problem"
    assert "backup" in found["database"]["advice"]


def test_a_clock_behind_the_data_is_found(tmp_path: Path) -> None:
    gateway("migrate", data=tmp_path)
    later = time.time() + 86_400
    os.utime(tmp_path / "data" / "gateway.db", (later, later))
    code, found = findings(tmp_path)
    assert code == 1
    assert found["clock"]["state"] == "problem"


def test_a_folder_that_cannot_be_used_is_found(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    code, found = findings(tmp_path)
    assert code == 1
    assert found["data folder"]["state"] == "problem"


async def test_keys_that_cannot_be_fetched_are_found(tmp_path: Path) -> None:
    code, found = findings(tmp_path, JWKS_URL=f"http://127.0.0.1:{free_port()}/keys")
    assert code == 1
    assert found["credentials"]["state"] == "problem"
    assert "no usable keys" in found["credentials"]["found"]
