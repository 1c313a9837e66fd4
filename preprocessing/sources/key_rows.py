"""From the keys of the catalogue to their rows, at a cost that does not grow with the catalogue."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_CHUNK = 1 << 18
"""Keys that are Python objects at once."""


class KeyRows:
    """Finds keys by their sorted hashes: 12 bytes a key beside the keys themselves.

    Built once a worker. ``pyarrow.compute.index_in`` hashes all keys anew in each call, and a pandas index holds
    them as Python objects: 100 bytes a key and more.
    """

    def __init__(self, keys: pa.Array) -> None:
        """Takes the keys [N], of type large_string, without nulls; of equal ones the first counts."""
        self._keys = keys
        parts = [_hashes(keys.slice(at, _CHUNK)) for at in range(0, len(keys), _CHUNK)]
        hashes = np.concatenate([np.zeros(0, np.uint64), *parts])
        order = np.argsort(hashes, kind="stable")
        self._places, self._hashes = order.astype(np.int32), hashes[order]

    def __len__(self) -> int:
        """N."""
        return len(self._keys)

    def find(self, keys: pa.Array) -> NDArray[np.int32]:
        """Where each key stands in the catalogue.

        Args:
          keys: [rows], large_string.

        Returns:
          [rows], from 0; -1 for null and for what the catalogue lacks.
        """
        encoded = keys.dictionary_encode()  # a log names few items often
        places = np.append(self._find(encoded.dictionary), np.int32(-1))
        return places[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]

    def _find(self, keys: pa.Array) -> NDArray[np.int32]:
        found = np.full(len(keys), -1, np.int32)
        wanted, hashes = np.arange(len(keys)), _hashes(keys)
        # In the order of the hashes the search reads memory from one end to the other.
        order = np.argsort(hashes)
        wanted, hashes = wanted[order], hashes[order]
        at = np.searchsorted(self._hashes, hashes)
        while True:
            inside = at < len(self._hashes)
            inside[inside] = self._hashes[at[inside]] == hashes[inside]
            if not inside.any():
                return found
            wanted, hashes, at = wanted[inside], hashes[inside], at[inside]
            places = self._places[at]
            same = pc.equal(self._keys.take(pa.array(places)), keys.take(pa.array(wanted)))
            is_same = same.to_numpy(zero_copy_only=False)
            found[wanted[is_same]] = places[is_same]
            # Another key of the same hash: it may be the next one.
            wanted, hashes, at = wanted[~is_same], hashes[~is_same], at[~is_same] + 1


def _hashes(keys: pa.Array) -> NDArray[np.uint64]:
    hashed: NDArray[np.uint64] = pd.util.hash_array(
        np.asarray(keys.to_pandas(), dtype=object), categorize=False
    )
    return hashed
