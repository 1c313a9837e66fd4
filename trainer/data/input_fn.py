"""Training batches.

Training data are infinite and a function of (seed, epoch, step) alone: starting at a step gives
exactly the batches that an uninterrupted run would see from there on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.catalogue import Catalogue
from trainer.data.example_blocks import ExampleBlocks
from trainer.data.examples_io import (
    example_files,
    pad,
    read_columns,
    require_fields,
    training_spec,
)
from trainer.data.ragged import Ragged

_READERS = 4
"""Files read in turn when the examples do not fit in memory."""
_PREFETCHED = 8


class Part(NamedTuple):
    """Which parts of each batch a process reads: `[first, first + number)` of `of` equal ones."""

    first: int
    number: int
    of: int


class TrainingData:
    """The training examples: dense arrays in memory where they fit, else a stream from files."""

    def __init__(
        self,
        data_dir: Path,
        config: TrainerSections,
        part: Part | None = None,
        is_remote: bool = False,
    ) -> None:
        """Reads the examples, unless there are more than `train.shuffle_buffer`.

        Args:
          data_dir: finished preprocessing.
          config: `train`, `features`, `seed` and the refusals of `data` and `preprocess` are
            read.
          part: of several processes, what this one reads of the batches that one process would
            read; each part comes as an element of its own.
          is_remote: the batches are read by other processes, each in an order of its own: from
            files, as only they can follow the graph.

        Raises:
          LongtailError: there are no examples, fewer than a batch, or files that do not fit the
          item counts or the configuration.
        """
        self._data_dir, self._config, self._part = Path(data_dir), config, part
        self._files = example_files(self._data_dir, "train")
        known = Catalogue.read(self._data_dir)
        self.num_items, self.num_examples = known.num_items, int(known.counts_examples.sum())
        batch = config.train.batch_size
        if not self.num_examples or not self._files:
            raise LongtailError(
                f"{data_dir}/examples/train holds no training example: every "
                "interaction was filtered or rejected; see the counts in data/manifest.json, "
                "preprocess.* and data.min_reward"
            )
        if self.num_examples < batch:
            raise LongtailError(
                f"expected at least one batch of train.batch_size={batch} examples, received "
                f"{self.num_examples}: lower train.batch_size"
            )
        self.steps_per_epoch = self.num_examples // batch
        self._spec = training_spec(self._data_dir, with_refused=config.data.refused is not None)
        require_fields(self._files[0], self._spec)
        self._widths = {
            "history": config.feature_list.history_length,
            "refused": config.preprocess.max_refused,
        }
        for feature in config.feature_list.query_columns:
            if feature.is_multivalued:
                self._widths[feature.name] = feature.max_length
                if feature.weights_name:
                    self._widths[feature.weights_name] = feature.max_length
        self._is_remote = is_remote
        self.failure: LongtailError | None = None
        self.in_memory = not is_remote and self.num_examples <= config.train.shuffle_buffer
        self._columns = self._load() if self.in_memory else {}

    def dataset(self, start_step: int) -> tf.data.Dataset:
        """Batches from a step on, without end.

        Args:
          start_step: number of steps done.

        Returns:
          Dicts: query features `[B]` or `[B, n]`, `history [B, L]` (oldest first, zeros after),
          `item [B]` int32 rows, `reward [B]`, `user_row [B]` int32 (the user's number in
          `user_items.parquet`) and, where `data.refused` is set, `refused [B, max_refused]` int32
          rows (oldest first, zeros after). A rest of an epoch smaller than a batch is left out of
          that epoch.
        """
        first, skipped = divmod(start_step, self.steps_per_epoch)
        epochs = tf.data.Dataset.range(first, np.iinfo(np.int64).max)
        finish = self._gather if self.in_memory else self._parse
        if self.in_memory:
            batches = epochs.flat_map(self._epoch_rows).skip(skipped)  # of rows, which costs little
        else:
            batches = self._remote_stream(epochs) if self._is_remote else self._windows(start_step)
        batches = self._parts(batches)
        threads = 1 if self.in_memory else 2
        ready = batches.map(finish, num_parallel_calls=threads, deterministic=True)
        # Else several workers ask each other in every step whether there is another batch, and of
        # how many examples.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return ready.apply(endless).prefetch(_PREFETCHED)

    def _parts(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Of rows or records `[B]`, those of this process."""
        if self._part is None:
            return batches
        first, number, of = self._part
        cut = batches.map(lambda batch: tf.reshape(batch, [of, -1])[first : first + number])
        return cut.unbatch()

    def _load(self) -> dict[str, tf.Tensor]:
        read = read_columns(self._files, self._spec)
        self._require_number(len(read["item"]))
        if not self._config.feature_list.sequences.names:
            del read["history"]
        return {
            name: tf.constant(
                pad(values, self._widths[name]) if isinstance(values, Ragged) else values
            )
            for name, values in read.items()
        }

    def _require_number(self, found: int) -> None:
        if found != self.num_examples:
            raise LongtailError(
                f"{self._data_dir}: item_counts.parquet names {self.num_examples} training "
                f"examples, the files hold {found}: they are of different runs; run preprocess "
                "again"
            )

    def _epoch_rows(self, epoch: tf.Tensor) -> tf.data.Dataset:
        batch = self._config.train.batch_size
        shape = [self.steps_per_epoch, batch]
        # TensorFlow keeps the function for ever: it must not hold on to the examples.
        seed, examples = self._config.seed, self.num_examples

        def shuffled(number: NDArray[np.int64]) -> NDArray[np.int32]:
            order = np.random.default_rng([seed, int(number)]).permutation(examples)
            return order[: shape[0] * batch].reshape(shape).astype(np.int32)

        rows = tf.ensure_shape(tf.numpy_function(shuffled, [epoch], tf.int32), shape)
        return tf.data.Dataset.from_tensor_slices(rows)

    def _gather(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.gather(values, rows) for name, values in self._columns.items()}

    def _windows(self, start_step: int) -> tf.data.Dataset:
        """Records `[B]` from files: half of the buffer is in use while the other half is read.

        The windows follow each other through the epochs, so that none begins with an empty buffer.
        """
        steps, batch = self.steps_per_epoch, self._config.train.batch_size
        size = max(self._config.train.shuffle_buffer // (2 * batch), 1)  # batches of a window
        of_epoch = -(-steps // size)
        blocks = ExampleBlocks(self._files, self._config.seed)
        self._require_number(len(blocks))

        def read(number: NDArray[np.int64]) -> NDArray[np.object_]:
            epoch, window = divmod(int(number), of_epoch)
            first, last = window * size, min((window + 1) * size, steps)
            try:
                return blocks.read(epoch, first * batch, last * batch).reshape(-1, batch)
            except LongtailError as error:
                self.failure = error  # of which TensorFlow passes on the text alone
                raise

        epoch, step = divmod(start_step, steps)
        window, inside = divmod(step, size)
        numbers = tf.data.Dataset.range(epoch * of_epoch + window, np.iinfo(np.int64).max)
        windows = numbers.map(lambda n: tf.numpy_function(read, [n], tf.string)).prefetch(1)
        batches = windows.flat_map(tf.data.Dataset.from_tensor_slices).skip(inside)
        return batches.map(lambda records: tf.ensure_shape(records, [batch]))

    def _remote_stream(self, epochs: tf.data.Dataset) -> tf.data.Dataset:
        """Records `[B]` in an order that is each worker's own and is made by the graph alone."""
        train = self._config.train
        files = epochs.flat_map(
            # The raw operation heeds no global seed, which would give all workers one order.
            lambda _: tf.data.Dataset.from_tensor_slices(self._files).shuffle(
                len(self._files), seed=_drawn()
            )
        )
        records = files.interleave(
            tf.data.TFRecordDataset, cycle_length=_READERS, num_parallel_calls=2, deterministic=True
        )
        # One buffer for all epochs: it is filled once.
        return records.shuffle(train.shuffle_buffer, seed=_drawn()).batch(
            train.batch_size, drop_remainder=True
        )

    def _parse(self, raw: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(raw, self._spec)
        if not self._widths["history"]:
            del parsed["history"]
        return {name: self._dense(name, values) for name, values in parsed.items()}

    def _dense(self, name: str, values: Any) -> tf.Tensor:
        if isinstance(values, tf.RaggedTensor):
            width = self._widths[name]
            rows = self._config.train.batch_size // (self._part.of if self._part else 1)
            values = values[:, -width:].to_tensor(shape=[rows, width])
        return tf.cast(values, tf.int32) if values.dtype == tf.int64 else values


def _drawn() -> tf.Tensor:
    return tf.raw_ops.RandomUniformInt(
        shape=tf.constant([], tf.int32),
        minval=tf.constant(0, tf.int64),
        maxval=tf.constant(1 << 40, tf.int64),
    )
