"""Keys of the catalogue found by their hashes: as pyarrow finds them, whatever the hashes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.sources import key_rows
from preprocessing.sources.key_rows import KeyRows

KEY = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)


def strings(values: list[str | None]) -> pa.Array:
    return pa.array(values, pa.large_string())


@pytest.mark.parametrize("hashes", [1 << 64, 3, 1], ids=["unlike", "three", "all alike"])
@given(known=st.lists(KEY, max_size=12), asked=st.lists(st.none() | KEY, max_size=12), at=st.data())
def test_as_pyarrow_finds_them(
    hashes: int, known: list[str], asked: list[str | None], at: st.DataObject
) -> None:
    if known:
        asked = asked + at.draw(st.lists(st.sampled_from(known), max_size=6))
    wanted = pc.index_in(strings(asked), value_set=strings(known))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_rows, "_hashes", fewer(key_rows._hashes, hashes))
        patch.setattr(key_rows, "_CHUNK", 5)
        found = KeyRows(strings(known)).find(strings(asked))
    assert found.dtype == np.int32
    assert found.tolist() == pc.fill_null(wanted, -1).to_pylist()


def fewer(hashes: Callable[[pa.Array], np.ndarray], of: int) -> Callable[[pa.Array], np.ndarray]:
    """The same function with `of` values: whatever the keys, some collide."""
    return lambda keys: np.array([int(value) % of for value in hashes(keys)], np.uint64)


def test_a_slice_of_keys_and_of_what_is_asked() -> None:
    rows = KeyRows(strings(["x", "a", "b", "c"])[1:])
    assert len(rows) == 3
    assert rows.find(strings([None, "x", None, "c", "a"])[1:]).tolist() == [-1, -1, 2, 0]
    assert rows.find(strings([])).tolist() == rows.find(strings([None]))[1:].tolist() == []
