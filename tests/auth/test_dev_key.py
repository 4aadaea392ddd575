"""The development key: made once, whole, for its owner's eyes."""

import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from gateway.auth import dev_key
from gateway.settings import SettingsError


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    secret = dev_key.load(folder)
    assert len(secret) == 43
    assert dev_key.load(folder) == secret
    assert stat.S_IMODE((folder / dev_key.NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == [dev_key.NAME]


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as processes:
        made = set(processes.map(dev_key.load, [tmp_path] * 16))
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == [dev_key.NAME]


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    dev_key.load(tmp_path)
    (tmp_path / dev_key.NAME).chmod(0o644)
    with pytest.raises(SettingsError, match="can be read by others"):
        dev_key.load(tmp_path)


@pytest.mark.parametrize("content", ["", "short"])
def test_a_damaged_key_is_not_used(tmp_path: Path, content: str) -> None:
    path = tmp_path / dev_key.NAME
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(SettingsError, match="damaged"):
        dev_key.load(tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="GATEWAY_DATA_DIR"):
        dev_key.load(tmp_path / "file" / "data")
