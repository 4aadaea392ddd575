"""The wheel holds everything that runs: migrations, scripts, the page and the JavaScript client it loads."""

import subprocess
import sys
import zipfile
from email.parser import BytesHeaderParser
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

from gateway import __version__
from tests.house import read_sources

ROOT: Final = Path(__file__).parents[1]
CLIENT: Final = PurePosixPath("clients/javascript/src")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_file_of_both_packages(wheel: zipfile.ZipFile) -> None:
    packed = set(wheel.namelist())
    ours = {source.path for source in read_sources(ROOT) if source.folder in {"gateway", "store"}}
    assert not {str(path) for path in ours} - packed


def test_the_wheel_holds_the_javascript_client_beside_the_page(wheel: zipfile.ZipFile) -> None:
    packed = set(wheel.namelist())
    scripts = [path.name for path in (ROOT / CLIENT).iterdir()]
    assert "index.js" in scripts
    assert not {f"gateway/api/web/client/{name}" for name in scripts} - packed


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gateway", "store"}


def test_the_wheel_offers_the_command_and_the_version(wheel: zipfile.ZipFile) -> None:
    folder = f"session_gateway-{__version__}.dist-info"
    assert "gateway = gateway.__main__:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    metadata = BytesHeaderParser().parsebytes(wheel.read(f"{folder}/METADATA"))
    assert metadata["Version"] == __version__
