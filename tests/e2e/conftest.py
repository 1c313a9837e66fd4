"""One shop, preprocessed once for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import config as configuration
from pipelines.config import Paths, RunConfig
from preprocessing.run import preprocess
from serving.export import check
from tests.e2e import shop

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="package", autouse=True)
def quick() -> Iterator[None]:
    """Exports of this process measure latencies for moments: seconds each, which nobody here reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "_SECONDS", 0.05)
        yield


@pytest.fixture(scope="session")
def shop_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration file of the shop beside its sources."""
    directory = tmp_path_factory.mktemp("shop")
    shop.write_sources(directory)
    return shop.write_config(directory, ROOT)


@pytest.fixture(scope="session")
def preprocessed(shop_config: Path) -> tuple[RunConfig, Paths]:
    """The shop after preprocessing."""
    config, paths = configuration.load(shop_config)
    preprocess(config, paths.data)
    return config, paths
