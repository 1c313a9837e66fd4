"""A split without examples is refused where it is made: nothing could be chosen or judged by it."""

from __future__ import annotations

from collections.abc import Mapping

from preprocessing.base.errors import LongtailError
from preprocessing.split_config import SplitConfig

_REMEDY = {
    "global_time": "every interaction lies before its start, or its instants are too few to divide: set "
    "preprocess.split.validation and test higher, or validation_from and test_from, or method: leave_one_out",
    "leave_one_out": "nobody has the 3 interactions that it takes: set preprocess.split.method: global_time",
    "column": "no row of the log names it in data.columns.split",
}


def require_examples(counters: Mapping[str, int], split: SplitConfig) -> None:
    """Check what each split got.

    Args:
      counters: ``train_interactions``, ``validation_interactions`` and ``test_interactions``.
      split: how they were divided.

    Raises:
      LongtailError: one got nothing, and ``allow_empty`` does not allow it.
    """
    received = {
        name: counters.get(f"{name}_interactions", 0) for name in ("train", "validation", "test")
    }
    empty = [name for name in ("validation", "test") if not received[name]]
    if empty and not split.allow_empty and split.held_out == "evaluate":
        raise LongtailError(
            f"preprocess.split left {' and '.join(empty)} without an interaction (received {received}): "
            f"{_REMEDY[split.method]}; to train all the same, set preprocess.split.allow_empty: true"
        )
