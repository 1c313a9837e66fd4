"""The events of a new day in the order of time: what a training that goes on from yesterday's model reads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.examples_io import HELD_OUT, TIMESTAMP, Columns, pad, read_columns, training_spec
from trainer.data.input_fn import Part, TrainingData
from trainer.data.ragged import Ragged


class NewEvents(TrainingData):
    """Training examples from an instant on, or those that were held out, oldest first, each once.

    Source: Yi et al., RecSys 2019, section 5: sequential training consumes the log in the order of
    time, so that model and frequency estimates follow a distribution that moves.

    Batches are full: the first is filled up with the newest of the other examples, less than a batch
    of them. All new examples are held in memory, one file beside them while reading.

    Attributes:
      num_examples: new examples, without those that fill up.
      drawn: `[N + 1]` how often each item is a target of the pass: what sampled negatives are drawn
        from.
    """

    def __init__(
        self,
        data_dir: Path,
        config: TrainerSections,
        since: int | None,
        part: Part | None = None,
    ) -> None:
        """Reads the new examples.

        Args:
          data_dir: finished preprocessing.
          config: see `TrainingData`.
          since: seconds since 1970 of the first new instant; None for what
            `preprocess.split.held_out: train` marked as held out.
          part: see `TrainingData`.

        Raises:
          LongtailError: there are none, or what `TrainingData` raises.
        """
        self._since = since
        super().__init__(data_dir, config, part)
        if not self.in_memory:
            self.in_memory, self._columns = True, self._load()
        rows = self._columns["item"].numpy()
        self.drawn = np.bincount(rows, minlength=self.num_items + 1).astype(np.int64)

    def _load(self) -> dict[str, tf.Tensor]:
        batch = self._config.train.batch_size
        with_refused = self._config.data.refused is not None
        spec = training_spec(
            self._data_dir,
            with_refused=with_refused,
            with_time=True,
            with_held_out=self._since is None,
        )
        parts = [self._newest(read_columns([file], spec), batch) for file in self._files]
        times = np.concatenate([part[TIMESTAMP] for part in parts])
        is_new = np.concatenate([self._is_new(part) for part in parts])
        self.num_examples = int(is_new.sum())
        if not self.num_examples:
            raise LongtailError(self._nothing_new())
        self.steps_per_epoch = math.ceil(self.num_examples / batch)
        wanted = self.steps_per_epoch * batch
        order = np.lexsort((times, is_new))[-wanted:]
        # A log that is smaller than its batches: some fill up more than once.
        order = np.concatenate([np.resize(order, wanted - len(order)), order])
        joined = {name: _joined([part[name] for part in parts]) for name in spec}
        del joined[TIMESTAMP]
        joined.pop(HELD_OUT, None)
        if not self._config.feature_list.sequences.names:
            del joined["history"]
        return {
            name: tf.constant(
                pad(values.take(order), self._widths[name])
                if isinstance(values, Ragged)
                else values[order]
            )
            for name, values in joined.items()
        }

    def _newest(self, columns: Columns, batch: int) -> Columns:
        """Of one file the new examples and as many others as could fill up a batch, the newest."""
        times: Any = columns[TIMESTAMP]
        is_new = self._is_new(columns)
        old = np.flatnonzero(~is_new)
        old = old[np.argsort(times[old], kind="stable")[-batch:]]
        rows = np.sort(np.concatenate([old, np.flatnonzero(is_new)]))
        return {
            name: values.take(rows) if isinstance(values, Ragged) else values[rows]
            for name, values in columns.items()
        }

    def _is_new(self, columns: Columns) -> NDArray[np.bool_]:
        values: Any = columns[HELD_OUT if self._since is None else TIMESTAMP]
        found: NDArray[np.bool_] = values > 0 if self._since is None else values >= self._since
        return found

    def _nothing_new(self) -> str:
        if self._since is None:
            return (
                f"validation and test hold no training example in {self._data_dir}: with "
                "preprocess.examples first these are items that their user "
                "never had before; set train.final_fit: none"
            )
        return (
            f"{self._data_dir} holds no training event since {np.datetime64(self._since, 's')} UTC, where the "
            "model that is continued ends: add new events to the log, or let preprocess.split begin later"
        )

    def _epoch_rows(self, epoch: tf.Tensor) -> tf.data.Dataset:
        shape = [self.steps_per_epoch, self._config.train.batch_size]
        rows = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)
        return tf.data.Dataset.from_tensor_slices(rows)


def _joined(parts: list[Any]) -> NDArray[Any] | Ragged:
    if not isinstance(parts[0], Ragged):
        return np.concatenate(parts)
    sizes = np.concatenate([np.diff(part.row_splits) for part in parts])
    values = np.concatenate([part.values for part in parts])
    return Ragged(values, np.concatenate([[0], np.cumsum(sizes)]))
