"""compose.yaml, the Dockerfile and the balancer's file say what is so; no Docker is needed to see it."""

import re
import shlex
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway.__main__ import main
from gateway.settings import is_loopback, read

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
NODES: Final = [name for name in SERVICES if name.startswith("gateway")]
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
HAPROXY: Final = (ROOT / "loadtest" / "cluster" / "haproxy.cfg").read_text()
# What the Compose specification knows of a service, as far as it is used: a misspelt key is none of these.
KEYS: Final = {
    *(
        "build",
        "cap_drop",
        "command",
        "depends_on",
        "environment",
        "healthcheck",
        "image",
        "networks",
        "ports",
    ),
    *("read_only", "restart", "secrets", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "user"),
    "volumes",
}


def environment(service: str, tmp_path: Path) -> dict[str, str]:
    """What a container of the image is told, with secrets made for the test."""
    given = {**image_environment(), **SERVICES[service]["environment"]}
    for name, value in given.items():
        if value.startswith("/run/secrets/"):
            secret = tmp_path / Path(value).name
            secret.write_text("0123456789abcdef" * 4)
            given[name] = str(secret)
    return given


def image_environment() -> dict[str, str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    lines = re.findall(r"^ENV (.*)$", joined.rpartition("FROM ")[2], flags=re.M)
    return dict(pair.split("=", 1) for line in lines for pair in shlex.split(line))


def test_it_has_the_servers_three_nodes_a_migration_and_a_balancer() -> None:
    assert set(SERVICES) == {"postgres", "redis", "migrate", "balancer", *NODES}
    assert len(NODES) == 3
    assert {node["build"] for node in SERVICES.values() if "build" in node} == {"."}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_only_what_compose_knows(name: str) -> None:
    assert set(SERVICES[name]) <= KEYS


@pytest.mark.parametrize("name", [*NODES, "migrate"])
def test_the_gateway_takes_every_setting_it_is_given(name: str, tmp_path: Path) -> None:
    settings = read(environment(name, tmp_path)).settings
    assert settings.database_url is not None
    assert settings.redis_url is not None
    assert settings.jwt_secret is not None
    assert not is_loopback(settings.host)
    # Health is asked by the balancer, from another container.
    assert not is_loopback(settings.ops_host)
    assert SERVICES["migrate"]["command"] == ["migrate"]
    assert "migrate" in main.commands


def test_every_node_has_a_name_of_its_own_and_all_else_in_common(tmp_path: Path) -> None:
    environments = [environment(name, tmp_path) for name in NODES]
    assert [each.pop("GATEWAY_NODE_ID") for each in environments] == ["n1", "n2", "n3"]
    assert environments[0] == environments[1] == environments[2]


def test_only_the_balancer_is_reached_from_outside_and_only_from_this_machine() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "balancer": ["127.0.0.1:8000:8000"]
    }
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "outside" in service["networks"]} == {"balancer"}


def test_secrets_are_files_that_git_does_not_see() -> None:
    asked = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert asked == set(COMPOSE["secrets"])
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    assert "/secrets/" in (ROOT / ".gitignore").read_text().split()
    told = [value for service in SERVICES.values() for value in service.get("environment", {}).items()]
    assert all(value.startswith("/run/secrets/") for name, value in told if name.endswith("_FILE"))
    assert not [name for name, _ in told if name.endswith(("PASSWORD", "SECRET"))]


def test_whatever_a_service_refers_to_is_there() -> None:
    for service in SERVICES.values():
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", [])) <= set(SERVICES)
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists()


def test_nothing_begins_before_what_it_needs() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in NODES:
        needed = SERVICES[name]["depends_on"]
        assert needed["migrate"] == {"condition": "service_completed_successfully"}
        assert needed["redis"] == {"condition": "service_healthy"}
    for name in ("postgres", "redis", "balancer"):
        assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_a_node_has_time_to_drain(tmp_path: Path) -> None:
    for name in NODES:
        drain_s = read(environment(name, tmp_path)).settings.drain_s
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > drain_s + 5


def test_the_balancer_knows_the_nodes_by_name_and_port(tmp_path: Path) -> None:
    settings = read(environment(NODES[0], tmp_path)).settings
    servers = dict(re.findall(r"^ +server \S+ (\S+):(\d+)$", HAPROXY, flags=re.M))
    assert servers == dict.fromkeys(NODES, str(settings.port))
    assert f"check port {settings.ops_port} " in HAPROXY
    assert "uri /readyz" in HAPROXY
    assert re.search(r"^ +bind :8000$", HAPROXY, flags=re.M)


def test_the_image_copies_only_what_is_there_and_reaches_the_builder() -> None:
    stage = DOCKERFILE.split("\nFROM ")[1]
    sources = [
        source for line in re.findall(r"^COPY (.*)$", stage, flags=re.M) for source in line.split()[:-1]
    ]
    admitted = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), flags=re.M)
    assert set(sources) == set(admitted)
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_runs_as_nobody_in_particular_and_says_when_it_is_ill() -> None:
    final = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"^USER (?!0|root)\d+$", final, flags=re.M)
    assert "HEALTHCHECK" in final
    assert "/livez" in final
    assert re.search(r'^ENTRYPOINT \["gateway"\]\nCMD \["serve"\]$', final, flags=re.M)
    assert "serve" in main.commands


def test_every_package_of_the_image_comes_with_its_hash() -> None:
    installs = re.findall(r"pip install (.*?)(?: \\\n| *\n)", DOCKERFILE)
    assert installs
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)
    assert all(
        f"--requirement {lock}" in DOCKERFILE for lock in ("requirements.lock", "requirements-build.lock")
    )
