"""The locks hold what pyproject.toml asks for, with hashes; the tests run in what they describe."""

import re
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[1]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME: Final[list[str]] = PROJECT["project"]["dependencies"]
DEVELOPMENT: Final[list[str]] = PROJECT["dependency-groups"]["dev"]
LOCKS: Final = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
# What the image is built with; development has it too (`hatchling`).
BUILD: Final[list[str]] = PROJECT["build-system"]["requires"]


def pins(lock: str) -> dict[str, str]:
    """Name and version of everything a lock installs."""
    text = (ROOT / lock).read_text()
    return {canonicalize_name(name): pin for name, pin in re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.M)}


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", RUNTIME),
        ("requirements-dev.lock", RUNTIME + DEVELOPMENT),
        ("requirements-build.lock", BUILD),
    ],
)
def test_the_lock_pins_every_dependency_within_its_range(lock: str, wanted: list[str]) -> None:
    pinned = pins(lock)
    for line in wanted:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), line


def test_the_locks_agree() -> None:
    for lock in ("requirements.lock", "requirements-build.lock"):
        assert pins(lock).items() <= pins("requirements-dev.lock").items()


def test_this_environment_is_the_locked_one() -> None:
    pinned = pins("requirements-dev.lock")
    asked = [canonicalize_name(Requirement(line).name) for line in RUNTIME + DEVELOPMENT]
    assert {name: version(name) for name in asked} == {name: pinned[name] for name in asked}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_its_packages_need_on_the_oldest_python(lock: str) -> None:
    """pip-compile looks at the Python it runs on: what only an older one needs, it leaves out."""
    oldest = {"python_version": "3.11", "python_full_version": "3.11.0", "extra": ""}
    pinned = pins(lock)
    for name in pinned:
        for line in distribution(name).requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate(oldest):
                assert canonicalize_name(needed.name) in pinned, f"{name} needs {line}"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_pins_and_hashes_and_nothing_of_where_it_was_made(lock: str) -> None:
    pin, digest = r"[\w.-]+==\S+( ; [^\\]+)? \\", r"    --hash=sha256:[0-9a-f]{64}( \\)?"
    lines = [line for line in (ROOT / lock).read_text().splitlines() if not line.startswith("# ")]
    assert not [line for line in lines if line and not re.fullmatch(f"{pin}|{digest}", line)]
