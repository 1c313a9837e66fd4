"""The synthetic data, written once a process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer.synthetic import make_config, write_data
from trainer.config.sections import TrainerSections


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished `data/`; tests that damage it take `data_copy`."""
    directory = tmp_path_factory.mktemp("synthetic") / "data"
    write_data(directory)
    return directory


@pytest.fixture
def data_copy(data_dir: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    return Path(shutil.copytree(data_dir, tmp_path / "copy"))


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., TrainerSections]:
    """Makes configurations of the synthetic data."""
    return lambda **sections: make_config(tmp_path, **sections)
