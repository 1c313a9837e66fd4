"""Training batches: complete, repeatable, resumable; evaluation queries; bad data."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from preprocessing.base.errors import LongtailError
from preprocessing.sources import record_blocks
from tests.trainer.synthetic import FEATURES, PER_USER, USERS, refused_by
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.example_blocks import ExampleBlocks
from trainer.data.examples_io import example_files, pad, read_columns, training_spec
from trainer.data.input_fn import TrainingData
from trainer.data.ragged import Ragged
from trainer.evaluation.queries import evaluation_queries

EXAMPLES = USERS * (PER_USER - 4)
Configure = Callable[..., TrainerSections]
IN_MEMORY, STREAMED = {}, {"shuffle_buffer": 200}
REFUSED = {"refused": {"column": "liked", "at_most": 0}}


def take(dataset: tf.data.Dataset, steps: int) -> list[dict[str, np.ndarray]]:
    return [
        {name: values.numpy() for name, values in batch.items()}
        for batch in islice(iter(dataset), steps)
    ]


def keys(batches: list[dict[str, np.ndarray]]) -> list[tuple[Any, ...]]:
    """What tells examples apart: user, item and history."""
    return [
        (int(user), int(item), tuple(history))
        for batch in batches
        for user, item, history in zip(
            batch["user_key"], batch["item"], batch["history"], strict=True
        )
    ]


@pytest.mark.parametrize("train", [IN_MEMORY, STREAMED])
def test_an_epoch_holds_every_example_once_in_an_order_of_its_own(
    data_dir: Path, configure: Configure, train: dict[str, int]
) -> None:
    data = TrainingData(data_dir, configure(train={"batch_size": 32, **train}))
    assert data.in_memory == (train is IN_MEMORY)
    assert data.steps_per_epoch == EXAMPLES // 32 == 30
    batches = take(data.dataset(0), 60)
    first, second = keys(batches[:30]), keys(batches[30:])
    assert sorted(first) == sorted(second)
    assert first != second
    stored = read_columns(
        sorted(map(str, (data_dir / "examples/train").glob("*"))), training_spec(data_dir)
    )
    expected = zip(
        stored["user_key"], stored["item"], map(tuple, pad(stored["history"], 8)), strict=True
    )
    assert sorted(first) == sorted((int(u), int(i), h) for u, i, h in expected)


@pytest.mark.parametrize("train", [IN_MEMORY, STREAMED])
@pytest.mark.parametrize("start", [1, 29, 30, 47])
def test_starting_at_a_step_gives_the_batches_from_there_on(
    data_dir: Path, configure: Configure, train: dict[str, int], start: int
) -> None:
    config = configure(train=train)
    whole = take(TrainingData(data_dir, config).dataset(0), 65)
    resumed = take(TrainingData(data_dir, config).dataset(start), 65 - start)
    for one, other in zip(whole[start:], resumed, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


def test_a_stream_goes_on_from_its_place_and_through_the_epochs_without_a_refill(
    data_dir: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int]] = []
    original = ExampleBlocks.read

    def noted(self: ExampleBlocks, epoch: int, first: int, last: int) -> np.ndarray:
        asked.append((epoch, first, last))
        return original(self, epoch, first, last)

    monkeypatch.setattr(ExampleBlocks, "read", noted)
    # Windows of three batches of 32: half of the buffer. An epoch of 30 steps is ten of them.
    config = configure(train={"batch_size": 32, "shuffle_buffer": 200})
    take(TrainingData(data_dir, config).dataset(47), 30)
    # Step 47 is the third batch of window 5 of epoch 1.
    windows = [(1 + w // 10, 96 * (w % 10), 96 * (w % 10) + 96) for w in range(5, 5 + len(asked))]
    assert asked == windows
    assert 11 <= len(asked) <= 11 + 5  # and what is made ready: 8 batches, and a window read ahead


def test_a_window_reads_its_own_blocks_alone(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks, read = ExampleBlocks(example_files(data_dir, "train"), seed=3), []
    original = ExampleBlocks._read_block

    def noted(self: ExampleBlocks, block: int) -> list[bytes]:
        read.append(block)
        return original(self, block)

    monkeypatch.setattr(ExampleBlocks, "_read_block", noted)
    assert len(blocks) == EXAMPLES == 960  # two files of 480: 7 blocks of 64 and one of 32 each
    whole = blocks.read(4, 0, 960)
    assert sorted(read) == list(range(16))
    stored = tf.data.TFRecordDataset(example_files(data_dir, "train")).as_numpy_iterator()
    assert sorted(whole) == sorted(stored)
    read.clear()
    parts = [blocks.read(4, first, first + 96) for first in range(0, 960, 96)]
    assert sorted(np.concatenate(parts)) == sorted(whole)
    # Only a block on the border of two windows is read twice.
    assert len(read) <= 16 + 9
    assert [b for n, b in enumerate(read) if b not in read[:n]] == blocks._order.blocks.tolist()
    again = ExampleBlocks(example_files(data_dir, "train"), seed=3)
    assert (again.read(4, 288, 384) == parts[3]).all()
    assert not (again.read(5, 288, 384) == parts[3]).all()


@pytest.mark.parametrize("damage", ["absent", "of another file", "bits"])
def test_blocks_that_do_not_fit_their_file_are_told(
    data_copy: Path, configure: Configure, damage: str
) -> None:
    file = Path(example_files(data_copy, "train")[0])
    listed = Path(record_blocks.path_of(str(file)))
    if damage == "absent":
        listed.unlink()
    elif damage == "bits":
        content = bytearray(file.read_bytes())
        content[100] ^= 1
        file.write_bytes(content)
    else:
        np.save(listed, np.load(listed) + np.array([0, *[1] * 8, 0]))
    config = configure(train=STREAMED)
    with pytest.raises((LongtailError, tf.errors.UnknownError), match="run preprocess again"):
        take(TrainingData(data_copy, config).dataset(0), 30)


def test_the_seed_decides(data_dir: Path, configure: Configure) -> None:
    config = configure()
    other = config.model_copy(update={"seed": 8})
    assert keys(take(TrainingData(data_dir, config).dataset(0), 5)) == keys(
        take(TrainingData(data_dir, config).dataset(0), 5)
    )
    assert keys(take(TrainingData(data_dir, config).dataset(0), 5)) != keys(
        take(TrainingData(data_dir, other).dataset(0), 5)
    )


@pytest.mark.parametrize("train", [IN_MEMORY, STREAMED])
def test_batches_are_dense_and_narrow(
    data_dir: Path, configure: Configure, train: dict[str, int]
) -> None:
    spec = TrainingData(data_dir, configure(train=train)).dataset(0).element_spec
    names = {"user_key", "segment", "age", "hour", "history", "item", "reward", "user_row"}
    assert set(spec) == names
    assert spec["history"].dtype == spec["item"].dtype == spec["hour"].dtype == tf.int32
    assert spec["user_row"].dtype == tf.int32
    assert spec["age"].dtype == spec["reward"].dtype == tf.float32
    (batch,) = take(TrainingData(data_dir, configure(train=train)).dataset(0), 1)
    assert batch["history"].shape == (32, 8)
    assert batch["item"].shape == (32,)


def test_a_rest_smaller_than_a_batch_is_left_out(data_dir: Path, configure: Configure) -> None:
    data = TrainingData(data_dir, configure(train={"batch_size": 100}))
    assert data.steps_per_epoch == 9
    seen = keys(take(data.dataset(0), 9))
    assert len(seen) == 900


@pytest.mark.parametrize("train", [IN_MEMORY, STREAMED])
def test_without_sequences_there_is_no_history(
    data_dir: Path, configure: Configure, train: dict[str, int]
) -> None:
    config = configure(train=train)
    kept = [feature for feature in config.features if feature.kind.value != "sequence"]
    assert len(kept) == len(FEATURES) - 2
    bare = config.model_copy(update={"features": kept})
    assert "history" not in TrainingData(data_dir, bare).dataset(0).element_spec


@pytest.mark.parametrize("train", [IN_MEMORY, STREAMED])
def test_an_example_names_its_user_among_the_pairs_of_training(
    data_dir: Path, configure: Configure, train: dict[str, int]
) -> None:
    table = pq.read_table(data_dir / "user_items.parquet").to_pydict()
    pairs = set(zip(table["user"], table["item"], strict=True))
    (batch,) = take(TrainingData(data_dir, configure(train=train)).dataset(0), 1)
    assert batch["user_row"].shape == (32,)
    assert set(zip(batch["user_row"].tolist(), batch["item"].tolist(), strict=True)) <= pairs


@pytest.mark.parametrize("train", [IN_MEMORY, STREAMED])
def test_batches_hold_the_newest_refusals(
    data_dir: Path, configure: Configure, train: dict[str, int]
) -> None:
    config = configure(train=train, data=REFUSED, preprocess={"max_refused": 3})
    data = TrainingData(data_dir, config).dataset(0)
    assert data.element_spec["refused"].dtype == tf.int32
    for batch in take(data, 3):
        for user, refused in zip(batch["user_row"], batch["refused"], strict=True):
            newest = refused_by(int(user))[-3:]
            assert refused.tolist() == newest + [0] * (3 - len(newest))


@pytest.mark.parametrize("train", [IN_MEMORY, STREAMED])
def test_examples_made_without_refusals_are_not_taken_for_empty_lists(
    data_copy: Path, configure: Configure, train: dict[str, int]
) -> None:
    for path in map(str, (data_copy / "examples" / "train").iterdir()):
        records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
        with tf.io.TFRecordWriter(path) as writer:
            for record in records:
                example = tf.train.Example.FromString(record)
                del example.features.feature["refused"]
                writer.write(example.SerializeToString())
    TrainingData(data_copy, configure(train=train))
    with pytest.raises(LongtailError, match=r"refused is missing .* run preprocess again"):
        TrainingData(data_copy, configure(train=train, data=REFUSED))


def test_padding_keeps_the_newest() -> None:
    lists = Ragged(np.array([1, 2, 3, 4, 5, 6]), np.array([0, 4, 4, 6]))
    assert pad(lists, 3).tolist() == [[2, 3, 4], [0, 0, 0], [5, 6, 0]]
    assert pad(lists, 0).shape == (3, 0)


def test_evaluation_queries(data_dir: Path) -> None:
    queries = evaluation_queries(data_dir, "validation")
    assert len(queries) == USERS
    # Two files hold every other user.
    assert queries.users[0] == b"user-0"
    assert queries.users[1] == b"user-2"
    assert queries.features["history"].shape == (USERS, 8)
    assert (queries.features["history"] > 0).all()
    assert queries.features["user_key"][1] == 3
    assert len(queries.targets) == len(queries.seen) == USERS
    np.testing.assert_array_equal(queries.seen.row_splits, queries.seen_counts.row_splits)
    # Each fixture user has 20 interactions before the split.
    counts = np.add.reduceat(queries.seen_counts.values, queries.seen.row_splits[:-1])
    assert (counts == 20).all()


def test_a_sample_of_the_queries_is_drawn_by_the_seed(data_dir: Path) -> None:
    queries = evaluation_queries(data_dir, "test")
    some = evaluation_queries(data_dir, "test", max_users=5, seed=3)
    rows = np.sort(np.random.default_rng(3).choice(USERS, 5, replace=False))
    assert (len(some), some.available, queries.available) == (5, USERS, USERS)
    assert some.users.tolist() == queries.users[rows].tolist()
    np.testing.assert_array_equal(some.features["age"], queries.features["age"][rows])
    expected = [queries.seen.values[slice(*queries.seen.row_splits[r : r + 2])] for r in rows]
    np.testing.assert_array_equal(some.seen.values, np.concatenate(expected))
    assert len(evaluation_queries(data_dir, "test", max_users=USERS, seed=3)) == USERS


def test_empty_training_set_is_explained(data_copy: Path, configure: Configure) -> None:
    counts = pq.read_table(data_copy / "item_counts.parquet")
    zeros = counts.set_column(1, "examples", [np.zeros(counts.num_rows, np.int64)])
    pq.write_table(zeros, data_copy / "item_counts.parquet")
    with pytest.raises(LongtailError, match=r"no training example.*manifest\.json"):
        TrainingData(data_copy, configure())


def test_less_than_a_batch_is_explained(data_dir: Path, configure: Configure) -> None:
    with pytest.raises(LongtailError, match=f"received {EXAMPLES}: lower train.batch_size"):
        TrainingData(data_dir, configure(train={"batch_size": EXAMPLES + 1}))


def test_files_that_do_not_fit_the_counts_are_refused(
    data_copy: Path, configure: Configure
) -> None:
    (data_copy / "examples" / "train" / "part-00001.tfrecord").unlink()
    with pytest.raises(LongtailError, match=f"names {EXAMPLES} .* hold {EXAMPLES // 2}"):
        TrainingData(data_copy, configure())


def test_damaged_examples_are_refused(data_copy: Path, configure: Configure) -> None:
    path = data_copy / "examples" / "train" / "part-00000.tfrecord"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(LongtailError, match=r"cannot be parsed.*run preprocess again"):
        TrainingData(data_copy, configure())


def test_missing_split_names_the_remedy(tmp_path: Path, data_copy: Path) -> None:
    for path in (data_copy / "examples" / "test").iterdir():
        path.unlink()
    (data_copy / "examples" / "test").rmdir()
    with pytest.raises(LongtailError, match="examples/test: run preprocess"):
        evaluation_queries(data_copy, "test")
