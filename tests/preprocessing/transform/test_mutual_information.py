"""Mutual information by hand and against a slow reference."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from preprocessing.features import Feature, FeatureList
from preprocessing.transform.mutual_information import MutualInformation, codes

FEATURES = FeatureList(
    tuple(Feature(name=n, side="item", kind="categorical") for n in ("a", "b", "c"))
)


def batch(**columns: list[int]) -> pa.RecordBatch:
    arrays = [
        pa.array([[v] for v in values], pa.large_list(pa.int64())) for values in columns.values()
    ]
    return pa.RecordBatch.from_arrays(arrays, list(columns))


def combined(*batches: pa.RecordBatch) -> np.ndarray:
    combine = MutualInformation(FEATURES)
    parts = [combine.add_input(combine.create_accumulator(), b) for b in batches]
    return np.array(combine.extract_output(combine.merge_accumulators(parts))["mi"])


def test_by_hand() -> None:
    # a and b are equal coins: MI = H = log 2; c is constant: nothing to know
    got = combined(batch(a=[1, 2, 1, 2], b=[2, 1, 2, 1], c=[5, 5, 5, 5]))
    assert got[0, 1] == pytest.approx(math.log(2))
    assert got[0, 0] == pytest.approx(math.log(2))
    assert got[2].tolist() == [0, 0, 0]
    # independent: all four pairs once
    assert combined(batch(a=[1, 1, 2, 2], b=[1, 2, 1, 2], c=[1, 1, 1, 1]))[0, 1] == pytest.approx(0)


def test_against_a_slow_reference_and_whatever_the_batches() -> None:
    random = np.random.default_rng(0)
    columns = {"a": random.integers(0, 4, 300), "b": random.integers(0, 6, 300)}
    columns["c"] = (columns["a"] + random.integers(0, 2, 300)) % 4
    lists = {k: v.tolist() for k, v in columns.items()}
    whole = combined(batch(**lists))
    pieces = combined(
        *(batch(**{k: v[i : i + 70] for k, v in lists.items()}) for i in range(0, 300, 70))
    )
    np.testing.assert_allclose(whole, pieces)
    for i, u in enumerate("abc"):
        for j, v in enumerate("abc"):
            expected = 0.0
            for x in set(lists[u]):
                for y in set(lists[v]):
                    pxy = np.mean((columns[u] == x) & (columns[v] == y))
                    if pxy:
                        expected += pxy * math.log(
                            pxy / (np.mean(columns[u] == x) * np.mean(columns[v] == y))
                        )
            assert whole[i, j] == pytest.approx(expected, abs=1e-8)


def test_codes_take_the_first_value_and_bin_numbers() -> None:
    assert codes(pa.array([[4, 9], [], [3]], pa.large_list(pa.int64()))).tolist() == [4, 0, 3]
    assert codes(pa.array([[-2.0], [0.0], [], [2.0]], pa.large_list(pa.float32()))).tolist() == [
        1,
        3,
        0,
        5,
    ]
