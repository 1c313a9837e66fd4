"""Today goes on from yesterday: rows are found by key, new events are read in order, streams go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from preprocessing.base.artifacts import read_manifest, write_manifest
from preprocessing.base.errors import LongtailError
from tests.trainer.processes import cluster_of, entry_point, tails, tasks, wait
from tests.trainer.synthetic import HELD_OUT_FROM, USERS
from tests.trainer.worker_steps import state_of
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.new_events import NewEvents
from trainer.data.vocabulary import Rows, open_transform
from trainer.loop.build import build_model, load_model
from trainer.loop.continuation import Previous, carried_over
from trainer.loop.run_state import RunState
from trainer.negatives.carry_frequency import carry_frequency
from trainer.negatives.frequency import FrequencyEstimator
from trainer.task import train, training_fingerprint

Configure = Callable[..., TrainerSections]
QUIET = Console(quiet=True)
SINCE = HELD_OUT_FROM
"""Of 20 instants; each user has one event an instant."""
STREAMED = {"probabilities": "streamed", "frequency": {"buckets": 512, "hashes": 2}}
MEMORY = {"size": 48, "drawn": 24, "warm_up_steps": 2, "momentum": 0.5}


@pytest.fixture(scope="module")
def yesterday(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose training events end before SINCE."""
    from tests.trainer.synthetic import make_config

    work = tmp_path_factory.mktemp("yesterday")
    shutil.copytree(data_dir, work / "data")
    split = {"validation_from": f"1970-01-01T00:00:{SINCE}"}
    write_manifest(work / "data", "yesterday", {"split": split})
    config = make_config(work, loss=STREAMED, train={"max_epochs": 1})
    train(config, work / "data", work / "model", console=QUIET)
    return work


@pytest.fixture
def today(data_copy: Path) -> Path:
    """The same data, the products' vocabulary in another order, one gone and two new ones."""
    assets = data_copy / "transform_graph" / "item" / "transform_fn" / "assets" / "product"
    keys = assets.read_text().split()
    gone = keys.pop(5)
    assets.write_text("".join(f"{key}\n" for key in ["item-new", *reversed(keys), "item-newer"]))
    assert gone not in assets.read_text().split()
    return data_copy


def keys_of(data_dir: Path, name: str, side: str) -> list[bytes]:
    return list(open_transform(data_dir, side).vocabulary_by_name(name))


def test_known_keys_keep_rows_and_accumulators_and_new_ones_start(
    yesterday: Path, today: Path, configure: Configure
) -> None:
    config = configure()
    model, rows = carried_over(config, today, Previous.open(yesterday))
    old = load_model(config, yesterday / "data", yesterday / "model")
    fresh = build_model(config, today)
    before, now = (keys_of(path, "product", "item") for path in (yesterday / "data", today))
    tables = [m.item_tower.embeddings.tables["product"] for m in (old, model, fresh)]
    theirs, ours, initial = (table.numpy() for table in tables)
    sums = model.optimizer.accumulator_of(tables[1]).numpy()
    moved = 0
    for row, key in enumerate(now, 1):
        if key in before:
            np.testing.assert_array_equal(ours[row], theirs[before.index(key) + 1])
            moved += row != before.index(key) + 1
        else:
            # What it read until now: the one bucket of unknown keys, and not a row of its own chance.
            np.testing.assert_array_equal(ours[row], theirs[-1])
            # (The last row of all is drawn alike in either table.)
            assert key == b"item-newer" or not np.array_equal(ours[row], initial[row])
            np.testing.assert_allclose(sums[row], config.train.initial_accumulator)
    assert moved > 40
    for row in (0, -1):  # padding, and the hashed bucket behind the keys
        np.testing.assert_array_equal(ours[row], theirs[row])
    last = build_model(configure(loss=STREAMED), yesterday / "data")
    assert RunState(last, yesterday / "model", keep=2).restore()
    theirs = last.optimizer.accumulator_of(last.item_tower.embeddings.tables["product"]).numpy()
    for row, key in enumerate(now, 1):
        if key in before:
            np.testing.assert_array_equal(sums[row], theirs[before.index(key) + 1])
    assert (sums[1:-1] > config.train.initial_accumulator).any(axis=1).sum() > 50
    # 64 keys: one gone, 63 kept beside padding and a bucket, two new.
    assert rows["product"] == {"kept": 65, "new": 2, "gone": 1}
    assert rows["user_key"] == {"kept": USERS + 2, "new": 0, "gone": 0}
    for a, b in zip(model.query_tower.dense_weights, old.query_tower.dense_weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(model.optimizer.iterations) == 0


def test_new_events_are_read_once_and_in_order(data_dir: Path, configure: Configure) -> None:
    config = configure(train={"batch_size": 100})
    events = NewEvents(data_dir, config, SINCE)
    # 48 users with 8 instants each: 384, in 4 batches, the first filled up with 16 of instant 11.
    assert (events.num_examples, events.steps_per_epoch) == (384, 4)
    batches = list(events.dataset(0).take(4))
    items = np.concatenate([batch["item"] for batch in batches])
    np.testing.assert_array_equal(np.bincount(items, minlength=65), events.drawn)
    users = np.concatenate([batch["user_row"] for batch in batches])
    for instant in range(8):
        of_instant = users[16 + 48 * instant : 16 + 48 * (instant + 1)]
        assert sorted(of_instant) == list(range(USERS))
    again = list(events.dataset(2).take(2))
    np.testing.assert_array_equal(again[0]["item"], batches[2]["item"])


def test_a_stream_from_files_gives_the_same(data_dir: Path, configure: Configure) -> None:
    sizes: list[dict[str, Any]] = [{"shuffle_buffer": 40}, {}]
    one, two = (NewEvents(data_dir, configure(train=size), SINCE).dataset(0) for size in sizes)
    for ours, theirs in zip(one.take(12), two.take(12), strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_what_was_held_out_is_found_by_its_mark(data_dir: Path, configure: Configure) -> None:
    config = configure(train={"batch_size": 100})
    by_mark, by_time = (NewEvents(data_dir, config, since) for since in (None, SINCE))
    assert by_mark.num_examples == by_time.num_examples == 384
    for ours, theirs in zip(by_mark.dataset(0).take(4), by_time.dataset(0).take(4), strict=True):
        assert set(ours) == set(theirs)
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_batches_are_full_where_there_are_too_few_others(
    data_dir: Path, configure: Configure
) -> None:
    # 912 new ones in two batches of 500: of the 88 that fill up there are 48, and 40 come again.
    events = NewEvents(data_dir, configure(train={"batch_size": 500}), 1)
    assert (events.num_examples, events.steps_per_epoch) == (912, 2)
    assert [len(batch["item"]) for batch in events.dataset(0).take(2)] == [500, 500]
    assert events.drawn.sum() == 1000


@pytest.mark.parametrize("how", ["continue", "from_scratch"])
def test_a_final_fit_learns_what_was_held_out(
    yesterday: Path, data_dir: Path, configure: Configure, tmp_path: Path, how: str
) -> None:
    train_section = {"continue_from": str(yesterday), "final_fit": how}
    split = {"split": {"held_out": "train"}}
    config = configure(loss=STREAMED, train=train_section, preprocess=split)
    summary = train(config, data_dir, tmp_path / "model", console=QUIET)
    before = read_manifest(yesterday / "model") or {}
    assert before["passes"] == 1  # 30 of 30 steps were best
    # One pass over the 384, or over all 960 as often as was best when something could be measured.
    steps, examples = {"continue": (12, 384), "from_scratch": (30, 960)}[how]
    assert (summary["steps"], summary["examples"]) == (steps, examples)
    assert summary["passes"] == 1
    assert ("continued" in summary) == (how == "continue")
    assert ("from_scratch_as" in summary) == (how == "from_scratch")
    assert train(config, data_dir, tmp_path / "model", console=QUIET) == summary  # current


def test_training_goes_on(
    yesterday: Path, today: Path, configure: Configure, tmp_path: Path
) -> None:
    config = configure(loss=STREAMED, train={"continue_from": str(yesterday)})
    summary = train(config, today, tmp_path / "model", console=QUIET)
    assert summary["steps"] == 12 and summary["examples"] == 384
    assert summary["continued"]["rows"]["product"]["new"] == 2
    # 30 steps of yesterday's epoch are behind; an untrained model finds 10 of 64.
    assert summary["best"] > 0.4
    other = configure(loss=STREAMED, train={"continue_from": str(yesterday) + "/"})
    assert train(other, today, tmp_path / "model", console=QUIET) == summary  # current


def test_a_rate_of_its_own_is_that_of_a_continuation_alone(
    data_dir: Path, yesterday: Path, configure: Configure, tmp_path: Path
) -> None:
    slow = configure(train={"continued_learning_rate": 1e-9})
    assert training_fingerprint(slow, "data") == training_fingerprint(configure(), "data")
    assert training_fingerprint(slow, "data", "y") != training_fingerprint(configure(), "data", "y")
    section = slow.train.model_copy(update={"continue_from": str(yesterday)})
    config = slow.model_copy(update={"train": section})
    train(config, data_dir, tmp_path / "model")
    before = load_model(slow, data_dir, yesterday / "model").item_tower.embeddings.tables["product"]
    after = load_model(slow, data_dir, tmp_path / "model").item_tower.embeddings.tables["product"]
    np.testing.assert_allclose(after.numpy(), before.numpy(), atol=1e-6)


def test_a_killed_continuation_goes_on_at_its_checkpoint(
    yesterday: Path, today: Path, configure: Configure, tmp_path: Path
) -> None:
    config = configure(loss=STREAMED, train={"continue_from": str(yesterday)})
    whole = train(config, today, tmp_path / "whole", console=QUIET)

    class Killed(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if int(self.model.optimizer.iterations) >= 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, today, tmp_path / "cut", console=QUIET, callbacks=[Killed()])
    assert train(config, today, tmp_path / "cut", console=QUIET)["best"] == whole["best"]
    ours, theirs = (load_model(config, today, tmp_path / name) for name in ("cut", "whole"))
    for a, b in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "sections"),
    [
        ("today", {"loss": STREAMED, "negatives": {"uniform": 8}}),
        # The catalogue of yesterday: the buckets of the stream are taken as they are.
        ("data_dir", {"loss": STREAMED, "negatives": {"memory": MEMORY}}),
        ("today", {"data": {"reward_weights": True}}),  # counts of the new events
    ],
)
def test_two_workers_continue_as_one_process_does(
    yesterday: Path,
    configure: Configure,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    data: str,
    sections: dict[str, Any],
) -> None:
    today = request.getfixturevalue(data)
    train_section = {"continue_from": str(yesterday), "initial_accumulator": 1e-3}
    config = configure(**sections, train=train_section)
    command, logs = entry_point(config, today, tmp_path), tmp_path / "logs"
    with tasks(cluster_of(worker=2), command, logs) as started:
        codes = wait(started, logs)
    assert set(codes.values()) == {0}, tails(logs)
    alone = train(config, today, tmp_path / "alone", console=QUIET)
    together = read_manifest(tmp_path / "model") or {}
    for key in ("fingerprint", "steps", "best", "continued"):
        assert together[key] == alone[key]
    states = []
    for name in ("model", "alone"):
        model = build_model(config, today)
        assert RunState(model, tmp_path / name, keep=2).restore()
        states.append(state_of(model))
    ours, theirs = states
    assert set(ours) == set(theirs)
    assert [key for key in ours if key.startswith("negatives")] or "loss" not in sections
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=1e-5, atol=1e-5, err_msg=key)


def test_a_stream_goes_on_where_rows_stay() -> None:
    old, new = (FrequencyEstimator(64, 2, learning_rate=0.5) for _ in range(2))
    whole = FrequencyEstimator(64, 2, learning_rate=0.5)
    for step in range(1, 11):
        for estimator in (old, whole):
            estimator.update(tf.constant([1, 2 + step % 3]), tf.constant(step))
    carry_frequency(old, new, Rows.of_keys([b"a", b"b"], [b"a", b"b", b"c"], 0), 10)
    for step in range(1, 6):
        new.update(tf.constant([1 + step % 2]), tf.constant(step))
        whole.update(tf.constant([1 + step % 2]), tf.constant(10 + step))
    np.testing.assert_array_equal(new.interval, whole.interval)
    np.testing.assert_array_equal(new.last_seen, whole.last_seen - 10)


def test_a_new_key_starts_as_the_bucket_that_it_was_hashed_to() -> None:
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.KeyValueTensorInitializer([b"a", b"b"], tf.constant([0, 1], tf.int64)), 3
    )
    keys = [b"c", b"a", b"d", b"e"]
    rows = Rows.of_keys([b"a", b"b"], keys, 3)
    assert rows.fresh.tolist() == [1, 3, 4]
    expected = table.lookup(tf.constant([b"c", b"d", b"e"])).numpy() + 1  # padding before the keys
    assert rows.unknown.tolist() == expected.tolist() and len(set(expected)) > 1
    assert rows.summary() == {"kept": 5, "new": 3, "gone": 1}


def test_estimates_follow_their_items_to_other_rows() -> None:
    old, new = (FrequencyEstimator(4096, 2, learning_rate=0.5) for _ in range(2))
    for step in range(1, 41):
        old.update(tf.constant([1] if step % 4 else [1, 2]), tf.constant(step))
    # Yesterday a, b had rows 1, 2; today c, b, a have rows 1, 2, 3.
    carry_frequency(old, new, Rows.of_keys([b"a", b"b"], [b"c", b"b", b"a"], 0), 40)
    found = new.log_probability(tf.constant([3, 2, 1])).numpy()
    expected = old.log_probability(tf.constant([1, 2, 3])).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    new.update(tf.constant([2]), tf.constant(4))  # b after its usual four steps
    np.testing.assert_allclose(new.log_probability(tf.constant([2])), expected[1:2], rtol=1e-2)


@pytest.mark.parametrize("towers", [{"dim": 9}, {"item_hidden": []}])
def test_another_shape_is_told(
    yesterday: Path, data_dir: Path, configure: Configure, towers: dict[str, Any]
) -> None:
    with pytest.raises(LongtailError, match=r"expected features and towers as in .*from scratch"):
        carried_over(configure(towers=towers), data_dir, Previous.open(yesterday))


def test_bad_input_is_one_line(
    yesterday: Path, data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    def error(work_dir: Path, model_dir: Path = tmp_path / "m") -> str:
        config = configure(train={"continue_from": str(work_dir)})
        with pytest.raises(LongtailError) as caught:
            train(config, data_dir, model_dir, console=QUIET)
        return str(caught.value)

    assert "is no finished run" in error(tmp_path / "nowhere")
    assert "received this run's own" in error(yesterday, yesterday / "model")
    with pytest.raises(LongtailError, match="no training event since 1970-01-01T00:00:20"):
        NewEvents(data_dir, configure(), 20)
    other = Path(shutil.copytree(yesterday, tmp_path / "other"))
    write_manifest(other / "data", "yesterday", {"split": {}})
    assert "split.method global_time" in error(other)
    write_manifest(other / "data", "made anew", {"split": {}})
    assert "data that were made anew after the training" in error(other)
