"""Which server is found, and what is said when none is."""

import os
import socket
from pathlib import Path

import pytest

from loadtest.servers import account, binaries, ports
from loadtest.servers.account import Account
from loadtest.servers.binaries import ServerMissing, find_postgres, find_redis
from loadtest.servers.ports import free_port, reserve


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_HOMES", ())


@pytest.mark.usefixtures("nothing_installed")
def test_without_installed_servers_those_of_the_packages_are_taken() -> None:
    assert find_postgres("any").is_packaged
    assert find_redis("any").is_packaged


@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_server_is_a_sentence_with_the_remedy() -> None:
    with pytest.raises(ServerMissing, match="apt-get install postgresql"):
        find_postgres("installed")
    with pytest.raises(ServerMissing, match="apt-get install redis-server"):
        find_redis("installed")


@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_package_is_a_sentence_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda name: None)
    for find in (find_postgres, find_redis):
        with pytest.raises(ServerMissing, match="make setup"):
            find("any")


def test_a_client_without_a_server_is_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "postgres").write_text("#!/bin/sh\n")
    (tmp_path / "postgres").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_HOMES", ())
    with pytest.raises(ServerMissing):
        find_postgres("installed")


def test_the_newest_of_the_installed_is_taken() -> None:
    found = find_postgres("installed")
    assert not found.is_packaged
    assert found.version >= max(other.version for other in binaries._installed_postgres())


def test_a_reserved_port_is_free_for_its_server_alone() -> None:
    port = free_port()
    with reserve(port):
        assert not ports._is_free(port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)) as server:
            socket.create_connection(server.getsockname()).close()


def test_ports_are_outside_of_those_that_clients_are_given() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found = [free_port(beside=10_000) for _ in range(20)]
    assert len(set(found)) == 20
    assert max(found) + 10_000 < low


def test_where_the_other_user_cannot_enter_a_link_leads_to_where_it_can(tmp_path: Path) -> None:
    other = account.unprivileged()
    if other is None:
        assert os.geteuid() != 0  # whoever is not root runs Postgres as themselves
        return
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    made = account.dwelling(closed / "here", other, keep=False)
    assert (closed / "here").is_symlink()
    assert account.may_enter(other, made)
    assert (made.stat().st_uid, made.stat().st_mode & 0o777) == (other.uid, 0o700)
    assert account.dwelling(closed / "here", other, keep=False) == made
    account.leave(closed / "here")
    assert not made.exists()
    assert list(closed.iterdir()) == []


def test_without_another_user_the_folder_is_where_it_was_wanted(tmp_path: Path) -> None:
    made = account.dwelling(tmp_path / "here", None, keep=False)
    assert made == (tmp_path / "here").resolve()
    assert not (tmp_path / "here").is_symlink()
    account.leave(tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_of_users_that_may_enter_nothing_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(account, "may_enter", lambda who, folder: False)
    with pytest.raises(account.NoPlace, match="set TMPDIR"):
        account.dwelling(tmp_path / "here", Account("somebody", os.getuid(), os.getgid()), keep=False)
