"""Numeric features through TF-Transform: hand-worked z-scores, and what has none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam

from preprocessing.beam import overhead
from preprocessing.features import Feature, FeatureList
from preprocessing.transform.preprocessing_fn import make_preprocessing_fn
from preprocessing.transform.schema import adapter_config, raw_feature_spec

FLOATS = pa.large_list(pa.float32())
ROWS = 10_401
"""With one value of 1 among zeros the z-score of the 1 is sqrt(ROWS - 1) = 102."""
COLUMNS: dict[str, Callable[[int], float | None]] = {
    "plain": lambda row: (1.0, 2.0, 3.0)[row % 3] if row < ROWS // 3 * 3 else None,
    "constant": lambda row: 0.1,
    "empty": lambda row: None,
    "rare": lambda row: float(row == 7),
    "wide": lambda row: 1e18 if row % 2 else -1e18,  # whose square float32 does not hold
    "beyond": lambda row: 3e38 if row == 0 else (math.nan if row == 1 else float(row % 2)),
}


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The graph that is served, analysed on ``COLUMNS``."""
    directory = tmp_path_factory.mktemp("z_scores")
    features = FeatureList(tuple(Feature(name=n, side="item", kind="numeric") for n in COLUMNS))
    made = {name: [make(row) for row in range(ROWS)] for name, make in COLUMNS.items()}
    batch = pa.RecordBatch.from_pydict(
        {
            name: pa.array([[] if value is None else [value] for value in values], FLOATS)
            for name, values in made.items()
        }
    )
    adapter = adapter_config(raw_feature_spec(features), batch.schema)
    with overhead.signatures_read_once(), tft_beam.Context(temp_dir=str(directory / "scratch")):
        function = make_preprocessing_fn(features, weighted_ids=False)
        graph = ([batch], adapter) | tft_beam.AnalyzeDataset(function)
        _ = graph | tft_beam.WriteTransformFn(str(directory / "graph"))
    return tft.TFTransformOutput(str(directory / "graph")).transform_features_layer()


@pytest.fixture
def scores(layer: Any) -> Callable[..., dict[str, float]]:
    """The transformed values of one row, as at serving; features that are not given are missing."""

    def call(**row: float) -> dict[str, float]:
        raw = {
            name: tf.SparseTensor(
                np.zeros((int(name in row), 2), np.int64),
                np.array([row[name]] if name in row else [], np.float32),
                [1, int(name in row)],
            )
            for name in COLUMNS
        }
        return {name: float(value[0]) for name, value in layer(raw).items()}

    return call


def test_scores_are_distances_from_the_mean_in_deviations(scores: Any) -> None:
    # 1, 2 and 3 alike often: mean 2, deviation sqrt(2/3).
    assert scores(plain=3.0)["plain"] == pytest.approx(1 / math.sqrt(2 / 3), rel=1e-5)
    assert scores(plain=2.0)["plain"] == pytest.approx(0, abs=1e-6)
    assert scores(wide=1e18)["wide"] == pytest.approx(1, rel=1e-3)


def test_missing_and_constant_values_are_at_the_mean(scores: Any) -> None:
    assert set(scores().values()) == {0.0}
    assert scores(constant=0.1)["constant"] == 0.0
    assert scores(empty=5.0)["empty"] == 0.0
    for value in (3e38, math.inf, -math.inf, math.nan, 1e30):
        assert scores(plain=value)["plain"] == 0.0


def test_what_lies_beyond_the_limit_is_not_in_the_moments(scores: Any) -> None:
    # Zeros and ones but for rows 0 and 1: of 10,399 values 5,199 are 1.
    share = 5_199 / 10_399
    assert scores(beyond=1.0)["beyond"] == pytest.approx(
        (1 - share) / math.sqrt(share * (1 - share)), rel=1e-5
    )


def test_scores_are_cut_at_100(scores: Any) -> None:
    assert scores(rare=1.0)["rare"] == 100.0
    assert scores(plain=-1e18)["plain"] == -100.0
