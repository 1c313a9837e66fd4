"""Reads the TFRecords of preprocessing; the parse specs come from its TF-Transform output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import tf
from trainer.data.ragged import Ragged
from trainer.data.vocabulary import open_transform

_TRAIN_FIELDS = {"item": tf.int64, "reward": tf.float32, "user_row": tf.int64}
TIMESTAMP = "timestamp"
HELD_OUT = "held_out"
_QUERY_FIELDS = ("targets", "seen", "seen_counts")
_PARSED_AT_ONCE = 4096
Columns = dict[str, "NDArray[Any] | Ragged"]


def query_spec(data_dir: Path) -> dict[str, Any]:
    """Parse spec of the query side: single values, ragged lists, and the history (maybe empty)."""
    spec: dict[str, Any] = {}
    for name, feature in open_transform(data_dir, "query").transformed_feature_spec().items():
        if isinstance(feature, tf.io.FixedLenFeature):
            spec[name] = tf.io.FixedLenFeature([], feature.dtype)
        else:
            spec[name] = _ragged(feature.dtype)
    return {**spec, "history": _ragged(tf.int64)}


def training_spec(
    data_dir: Path,
    *,
    with_refused: bool = False,
    with_time: bool = False,
    with_held_out: bool = False,
) -> dict[str, Any]:
    """Parse spec of a training example.

    Args:
      data_dir: finished preprocessing.
      with_refused: whether the examples carry refusals, see `data.refused`.
      with_time: with the timestamp, which nothing in the model reads.
      with_held_out: with the mark of validation and test, see `preprocess.split.held_out`.
    """
    single = {name: tf.io.FixedLenFeature([], dtype) for name, dtype in _TRAIN_FIELDS.items()}
    refused = {"refused": _ragged(tf.int64)} if with_refused else {}
    time = {TIMESTAMP: tf.io.FixedLenFeature([], tf.int64)} if with_time else {}
    mark = {HELD_OUT: tf.io.FixedLenFeature([], tf.int64)} if with_held_out else {}
    return {**query_spec(data_dir), **single, **refused, **time, **mark}


def evaluation_spec(data_dir: Path) -> dict[str, Any]:
    """Parse spec of a query of validation or test."""
    lists = {name: _ragged(tf.int64) for name in _QUERY_FIELDS}
    return {**query_spec(data_dir), **lists, "user": tf.io.FixedLenFeature([], tf.string)}


def example_files(data_dir: Path, split: str) -> list[str]:
    """TFRecord files of a split, sorted.

    Raises:
      LongtailError: the split's directory does not exist.
    """
    directory = Path(data_dir) / "examples" / split
    if not directory.is_dir():
        raise LongtailError(
            f"there are no examples in {directory}: run preprocess (python -m preprocessing.run)"
        )
    return sorted(str(path) for path in directory.glob("part-*.tfrecord"))


def require_fields(file: str, spec: dict[str, Any]) -> None:
    """Looks whether the examples are of this version and configuration, by the first of them.

    A list that is absent would be parsed as an empty one, without a word.

    Raises:
      LongtailError: a field of supervision is absent.
    """
    try:
        records = list(tf.data.TFRecordDataset(file).take(1).as_numpy_iterator())
    except tf.errors.DataLossError as error:
        raise _unparsable(file, error) from error
    for record in records:
        present = tf.train.Example.FromString(record).features.feature
        absent = [name for name in ("user_row", "refused") if name in spec and name not in present]
        if absent:
            raise LongtailError(
                f"{', '.join(absent)} is missing in the examples of {Path(file).parent}: "
                "they are older or of another data.refused; run preprocess again"
            )


def count_records(files: Sequence[str]) -> int:
    """How many records some files hold; none is parsed.

    Raises:
      LongtailError: a file is damaged.
    """
    batches = tf.data.TFRecordDataset(list(files)).batch(_PARSED_AT_ONCE)
    try:
        return sum(int(tf.shape(batch)[0]) for batch in batches)
    except tf.errors.DataLossError as error:
        raise _unparsable(files[0], error) from error


def read_columns(
    files: Sequence[str],
    spec: dict[str, Any],
    every: int = 1,
    chosen: NDArray[np.bool_] | None = None,
) -> Columns:
    """All examples of some files, in order, every n-th, or the chosen ones.

    Args:
      files: TFRecords.
      spec: of the fields wanted.
      every: n.
      chosen: of all examples, which are read; None for all.

    Returns:
      name -> `[n]`, or `Ragged` of n lists; integers as int32, but seconds as int64.

    Raises:
      LongtailError: a file is damaged or does not fit the spec.
    """
    records = tf.data.TFRecordDataset(list(files)).shard(every, 0)
    if chosen is not None:
        is_chosen = tf.data.Dataset.from_tensor_slices(chosen)
        records = tf.data.Dataset.zip((records, is_chosen)).filter(lambda _, keep: keep)
        records = records.map(lambda record, _: record)
    records = records.batch(_PARSED_AT_ONCE)
    batches = records.map(
        lambda raw: tf.io.parse_example(raw, spec), num_parallel_calls=tf.data.AUTOTUNE
    )
    parts: dict[str, list[Any]] = {name: [] for name in spec}
    try:
        for batch in batches:
            for name, values in batch.items():
                parts[name].append(values.numpy() if name == TIMESTAMP else _to_numpy(values))
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise _unparsable(files[0], error) from error
    return {
        name: np.concatenate([np.zeros(0, np.int64), *parts[name]])
        if name == TIMESTAMP
        else _join(parts[name], spec[name])
        for name in spec
    }


def pad(lists: Ragged, width: int) -> NDArray[Any]:
    """Fills lists up with zeros behind the values, to `[n, width]`.

    Of a longer list the last values stay: the newest of a history.
    """
    sizes = np.diff(lists.row_splits)
    kept = np.minimum(sizes, width)
    rows = np.repeat(np.arange(len(lists)), kept)
    places = np.arange(kept.sum()) - np.repeat(np.cumsum(kept) - kept, kept)
    dense = np.zeros((len(lists), width), lists.values.dtype)
    dense[rows, places] = lists.values[
        np.repeat(lists.row_splits[:-1] + sizes - kept, kept) + places
    ]
    return dense


def _unparsable(file: str, error: Any) -> LongtailError:
    return LongtailError(
        f"the examples in {Path(file).parent} cannot be parsed ({error.message}): run preprocess "
        "again"
    )


def _ragged(dtype: tf.DType) -> Any:
    return tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)


def _to_numpy(values: Any) -> Any:
    if isinstance(values, tf.RaggedTensor):
        return _narrow(values.values.numpy()), values.row_lengths().numpy()
    return _narrow(values.numpy())


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Indices and rows as int32: half the memory, and what `tf.gather` reads fastest."""
    return values.astype(np.int32) if values.dtype == np.int64 else values


def _join(parts: list[Any], feature: Any) -> NDArray[Any] | Ragged:
    kind: Any = {tf.int64: np.int32, tf.float32: np.float32}.get(feature.dtype, object)
    if isinstance(feature, tf.io.FixedLenFeature):
        return np.concatenate([np.zeros(0, kind), *parts])
    values = np.concatenate([np.zeros(0, kind), *(values for values, _ in parts)])
    sizes = np.concatenate([np.zeros(0, np.int64), *(sizes for _, sizes in parts)])
    return Ragged(values, np.concatenate([[0], np.cumsum(sizes)]))
