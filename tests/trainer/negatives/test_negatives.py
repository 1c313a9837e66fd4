"""Sources of negatives: the mixture, the bank and its momentum tower, known positives, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.input_fn import TrainingData
from trainer.loop.build import build_model
from trainer.loop.run_state import RunState
from trainer.losses.retrieval_task import RetrievalTask
from trainer.negatives.memory_bank import MemoryBank
from trainer.towers.recall_model import RecallModel

Configure = Callable[..., TrainerSections]
SEED = tf.constant([1, 2])
LATE = tf.constant(100, tf.int64)
MEMORY = {"size": 64, "warm_up_steps": 2}


def batches(data_dir: Path, config: TrainerSections, n: int) -> list[dict[str, tf.Tensor]]:
    return list(TrainingData(data_dir, config).dataset(0).take(n))


def train(model: RecallModel, steps: list[dict[str, tf.Tensor]]) -> list[float]:
    step = tf.function(model.train_step, autograph=False)
    return [float(step(batch)["loss"]) for batch in steps]


def test_the_bank_is_first_in_first_out() -> None:
    bank = MemoryBank(size=5, dim=1, warm_up_steps=3)
    for first in (1, 4):
        rows = tf.range(first, first + 3, dtype=tf.int64)
        bank.push(tf.cast(rows, tf.float32)[:, None], rows, -tf.cast(rows, tf.float32))
    kept = bank.read(SEED)
    assert sorted(kept.rows.numpy()) == [2, 3, 4, 5, 6]
    np.testing.assert_array_equal(kept.items[:, 0], kept.rows)
    np.testing.assert_array_equal(kept.log_p, -kept.rows.numpy())
    assert [bool(bank.is_ready(step)) for step in (2, 3)] == [False, True]


def test_a_bank_with_other_batches_equals_a_larger_batch(
    data_dir: Path, configure: Configure
) -> None:
    config = configure(negatives={"memory": MEMORY}, train={"batch_size": 32})
    model = build_model(config, data_dir)
    first, second, third = batches(data_dir, config, 3)
    for batch in (first, second):  # the bank holds 64, from weights that never move
        rows = tf.cast(batch["item"], tf.int64)
        features = model.item_table.gather(rows)
        model.negatives.remember(model.item_tower(features), rows)
    with_bank = model.losses_of(third, LATE, training=False)["loss"]

    plain = build_model(configure(), data_dir)
    rows = tf.concat([third["item"], first["item"], second["item"]], axis=0)
    counts = plain.item_table.counts_examples
    log_q = np.log(counts[rows.numpy()] / counts.sum()).astype(np.float32)
    larger = RetrievalTask(configure().loss)(
        plain.query_tower(third),
        plain.item_tower(plain.item_table.gather(rows)),
        candidate_log_q=log_q,
        candidate_ids=rows,
    )
    np.testing.assert_allclose(with_bank, larger, rtol=1e-5)


def test_places_of_the_bank_are_drawn_anew_with_each_seed() -> None:
    bank = MemoryBank(size=100, dim=1, warm_up_steps=3, drawn=10)
    rows = tf.range(1, 101, dtype=tf.int64)
    bank.push(tf.cast(rows, tf.float32)[:, None], rows, -tf.cast(rows, tf.float32))
    first, again, other = (bank.read(tf.constant(seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first.rows, again.rows)
    assert (first.rows.numpy() != other.rows.numpy()).any() and first.rows.shape == [10]
    np.testing.assert_array_equal(first.items[:, 0], first.rows)


def test_the_bank_waits_for_its_warm_up(data_dir: Path, configure: Configure) -> None:
    config = configure(negatives={"memory": MEMORY})
    with_bank, plain = build_model(config, data_dir), build_model(configure(), data_dir)
    steps = batches(data_dir, config, 5)
    ours, theirs = train(with_bank, steps), train(plain, steps)
    np.testing.assert_allclose(ours[:2], theirs[:2], rtol=1e-5)
    assert ours[2] > theirs[2]  # more negatives, a larger normaliser


@pytest.mark.parametrize(
    ("loss", "drawn"),
    [({}, 32), ({"log_q": "corrected"}, 31), ({"kind": "bce"}, 31)],
    ids=["standard", "corrected", "nce"],
)
def test_a_positive_that_is_no_draw_does_not_count_in_the_mixture(
    data_dir: Path, configure: Configure, loss: dict[str, Any], drawn: int
) -> None:
    model = build_model(configure(negatives={"uniform": 16}, loss=loss), data_dir)
    rows, counts = tf.range(1, 49, dtype=tf.int64), model.item_table.counts_examples
    log_q = model.negatives.candidates(
        tf.zeros([48, model.dim]), rows, tf.constant(32), LATE, SEED
    ).log_q
    share = counts[1:49] / counts.sum()
    n = drawn + 16
    expected = np.log(drawn / n * share + 16 / n / model.item_table.num_items)
    np.testing.assert_allclose(log_q, expected, rtol=1e-5)


def test_the_mixture_names_every_draw(data_dir: Path, configure: Configure) -> None:
    config = configure(negatives={"uniform": 16})
    model = build_model(config, data_dir)
    batch = batches(data_dir, config, 1)[0]
    rows = model.negatives.rows(tf.cast(batch["item"], tf.int64), SEED)
    assert rows.shape == [48] and rows.numpy()[32:].min() >= 1
    candidates = model.negatives.candidates(
        tf.zeros([48, model.dim]), rows, tf.constant(32), LATE, SEED
    )
    counts = model.item_table.counts_examples
    share = counts[rows.numpy()] / counts.sum()
    expected = np.log(32 / 48 * share + 16 / 48 / model.item_table.num_items)
    np.testing.assert_allclose(candidates.log_q, expected, rtol=1e-5)
    assert np.isfinite(train(model, batches(data_dir, config, 3))).all()


def test_without_in_batch_negatives_other_examples_do_not_count(
    data_dir: Path, configure: Configure
) -> None:
    config = configure(negatives={"in_batch": False, "uniform": 16})
    model = build_model(config, data_dir)
    batch = batches(data_dir, config, 1)[0]
    one = {name: values[:1] for name, values in batch.items()}
    # The same seed draws the same uniform items, so each example stands for itself.
    together = model.losses_of(batch, LATE, training=False)["loss"]
    alone = [
        model.losses_of({n: v[i : i + 1] for n, v in batch.items()}, LATE, training=False)["loss"]
        for i in range(len(one["item"]), 32)
    ]
    alone.append(model.losses_of(one, LATE, training=False)["loss"])
    np.testing.assert_allclose(together, np.mean(alone), rtol=1e-4)


def test_the_momentum_tower_follows_by_the_formula(data_dir: Path, configure: Configure) -> None:
    config = configure(negatives={"memory": {**MEMORY, "momentum": 0.9}})
    model = build_model(config, data_dir)
    momentum = model.negatives.momentum_tower
    assert momentum is not None
    follower = momentum._follower
    without = build_model(configure(negatives={"memory": MEMORY}), data_dir)
    # It is not learned: no accumulators.
    assert len(model.optimizer.variables) == len(without.optimizer.variables)
    model.item_tower.dense_weights[0].assign_add(tf.ones_like(model.item_tower.dense_weights[0]))
    before = follower.dense_weights[0].numpy()
    table, slow = (tower.embeddings.tables["product"] for tower in (model.item_tower, follower))
    table.assign_add(tf.ones_like(table))
    start = slow.numpy()
    rows = tf.constant([3, 3, 5], tf.int64)
    features = model.item_table.gather(rows)
    momentum.follow(features)
    np.testing.assert_allclose(follower.dense_weights[0], before + 0.1, rtol=1e-5)
    read = set(features["product"].numpy())
    moved = np.flatnonzero(np.abs(slow.numpy() - start).max(axis=1) > 1e-6)
    assert set(moved) == read
    np.testing.assert_allclose(slow.numpy()[moved], start[moved] + 0.1, rtol=1e-4)
    assert np.isfinite(train(model, batches(data_dir, config, 4))).all()


def test_known_positives_are_no_negatives(data_dir: Path, configure: Configure) -> None:
    config = configure(negatives={"known_positives": "remove"})
    model = build_model(config, data_dir)
    batch = batches(data_dir, config, 1)[0]
    rows, users = batch["item"].numpy(), batch["user_row"].numpy()
    pairs = pq.read_table(data_dir / "user_items.parquet").to_pydict()
    known = set(zip(pairs["user"], pairs["item"], strict=True))
    counts = model.item_table.counts_examples
    items = model.item_tower(model.item_table.gather(rows)).numpy()
    scores = model.query_tower(batch).numpy().astype(np.float64) @ items.T / 0.05
    mass = np.exp(scores) / (counts[rows] / counts.sum())
    losses = []
    for i, user in enumerate(users):
        left = [j for j in range(len(rows)) if (user, rows[j]) not in known]
        losses.append(-math.log(mass[i, i] / (mass[i, i] + mass[i, left].sum())))
    loss = model.losses_of(batch, LATE, training=False)["loss"]
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)


@pytest.mark.parametrize(
    ("loss", "negatives"),
    [
        ({"log_q": "none"}, {}),
        ({"probabilities": "streamed"}, {"uniform": 8}),
        ({"log_q": "corrected"}, {"uniform": 8, "memory": MEMORY}),
        ({"log_q": "corrected"}, {"known_positives": "remove"}),
        ({"log_q": "corrected", "probabilities": "streamed"}, {"memory": MEMORY}),
        ({}, {"hardest": 16}),
        ({"kind": "gramian", "temperature": 0.8}, {"uniform": 8}),
        ({"kind": "gramian", "temperature": 0.8, "log_q": "none"}, {"memory": MEMORY}),
        ({"kind": "bsl", "bsl_ratio": 2.0}, {}),
        ({"kind": "bce"}, {}),
        ({"kind": "bce"}, {"uniform": 8, "known_positives": "remove"}),
        ({"kind": "bce", "log_q": "none"}, {"in_batch": False, "uniform": 8}),
    ],
)
def test_every_arm_learns_whose_items_are_whose(
    data_dir: Path, configure: Configure, loss: dict[str, Any], negatives: dict[str, Any]
) -> None:
    # Planted: users of group g take items of category g. Of an untrained model the share is 1/2.
    config = configure(
        loss={"temperature": 0.2, **loss}, negatives=negatives, train={"learning_rate": 0.1}
    )
    model = build_model(config, data_dir)
    steps = batches(data_dir, config, 12)
    assert abs(own_first(model, steps) - 0.5) < 0.1
    train(model, steps * 4)
    assert own_first(model, steps) > 0.7


def own_first(model: RecallModel, steps: list[dict[str, tf.Tensor]]) -> float:
    """Share of pairs of an item of the user's group and another one in which the own scores higher."""
    counts = model.item_table.counts_examples
    trained = np.flatnonzero(counts)
    items = model.item_tower(model.item_table.gather(trained)).numpy()
    categories = model.item_table.gather(trained)["category"].numpy()
    shares = []
    for batch in steps:
        # The group of a user is the category of what it takes.
        groups = model.item_table.gather(batch["item"])["category"].numpy()
        for group, scores in zip(groups, model.query_tower(batch).numpy() @ items.T, strict=True):
            own, other = scores[categories == group], scores[categories != group]
            shares.append(np.mean(own[:, None] > other[None, :]))
    return float(np.mean(shares))


def test_bce_learns_at_the_defaults_of_the_configuration(
    data_dir: Path, configure: Configure
) -> None:
    config = configure(loss={"kind": "bce"})
    model = build_model(config, data_dir)
    log_z = model.main_task.log_z
    start = math.log(model.item_table.num_items)
    np.testing.assert_allclose(log_z, start, rtol=1e-6)
    steps = batches(data_dir, config, 12)
    train(model, steps * 4)
    assert own_first(model, steps) > 0.8
    assert abs(float(log_z) - start) > 1e-3  # learned; its gradient: functional tests


def test_frequencies_and_bank_come_back_from_a_checkpoint(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    config = configure(
        loss={"probabilities": "streamed"}, negatives={"memory": {**MEMORY, "momentum": 0.9}}
    )
    steps = batches(data_dir, config, 6)
    model = build_model(config, data_dir)
    train(model, steps[:3])
    RunState(model, tmp_path, 1).save()
    uninterrupted = train(model, steps[3:])
    other = build_model(config, data_dir)
    assert RunState(other, tmp_path, 1).restore()
    np.testing.assert_allclose(train(other, steps[3:]), uninterrupted, rtol=1e-5)


def test_a_checkpoint_with_a_bank_of_other_types_is_refused_and_kept(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    config = configure(negatives={"memory": MEMORY})
    earlier = build_model(config, data_dir)
    assert earlier.negatives.bank is not None
    # As versions before wrote it.
    earlier.negatives.bank._rows = tf.Variable(tf.zeros([64], tf.int32), trainable=False)
    RunState(earlier, tmp_path, 1).save()
    written = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    with pytest.raises(
        LongtailError, match=r"ckpt-0: .*int64.*int32.*train anew in another work_dir"
    ):
        RunState(build_model(config, data_dir), tmp_path, 1).restore()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == written


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"negatives": {"memory": {"size": 65, "warm_up_steps": 2}}}, "at most .* 64, received 65"),
        ({"negatives": {"memory": {"size": 8, "drawn": 9}}}, "at most size=8, received 9"),
        ({"negatives": {"hardest": 31}}, "less than the 31 negatives"),
        ({"negatives": {"in_batch": False}}, "in_batch and uniform are both off"),
        ({"negatives": {"explicit": True}}, "data.refused"),
        ({"loss": {"probabilities": "streamed", "frequency": {"buckets": 8}}}, "at least .*=32"),
        ({"loss": {"probabilities": "streamed", "log_q": "none"}}, "expected a correction"),
        ({"loss": {"kind": "bce", "log_q": "corrected"}}, "expected kind 'softmax'"),
        ({"loss": {"kind": "gramian"}, "negatives": {"hardest": 4}}, "another loss.kind"),
        ({"loss": {"kind": "bce"}, "negatives": {"hardest": 4}}, "'none' with loss.kind 'bce'"),
        (
            {"loss": {"log_q": "corrected", "remove_accidental_hits": False}},
            "expected remove_accidental_hits true",
        ),
        ({"loss": {"log_q": "corrected"}, "negatives": {"hardest": 4}}, "received 'corrected'"),
        ({"loss": {"temperature": 0}}, "loss.temperature"),
        ({"loss": {"bsl_ratio": 2.0}}, "bsl_ratio is read by kind 'bsl' alone, received 'softmax'"),
        ({"loss": {"frequency": {"hashes": 3}}}, "read by probabilities 'streamed' alone"),
    ],
)
def test_refuses_what_cannot_work(
    configure: Configure, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(LongtailError, match=message):
        configure(train={"batch_size": 32}, **sections)


def test_pseudo_events_are_given_once(configure: Configure) -> None:
    with pytest.raises(LongtailError, match=r"prior\.pseudo_events expected no towers\.popularity"):
        configure(prior={"pseudo_events": 3.0}, towers={"popularity": {}})


def test_the_prior_shifts_a_learned_weight(data_dir: Path, configure: Configure) -> None:
    towers = {"popularity": {"strength": 1.2}}
    shifted = build_model(configure(prior={"beta": -0.25}, towers=towers), data_dir)
    plain = build_model(configure(towers=towers), data_dir)
    batch = batches(data_dir, configure(), 1)[0]
    difference = shifted.embed_queries(batch).numpy() - plain.embed_queries(batch).numpy()
    np.testing.assert_allclose(difference[:, :-1], 0, atol=1e-6)
    np.testing.assert_allclose(difference[:, -1], -0.25, rtol=1e-5)


def test_the_prior_adds_beta_log_p_and_leaves_training_alone(
    data_dir: Path, configure: Configure
) -> None:
    config = configure(prior={"beta": 0.5})
    with_prior, plain = build_model(config, data_dir), build_model(configure(), data_dir)
    batch = batches(data_dir, config, 1)[0]
    losses = [float(m.losses_of(batch, LATE)["loss"]) for m in (with_prior, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    rows = np.arange(1, 9, dtype=np.int32)
    scores = [
        m.embed_queries(batch).numpy() @ m.embed_items(m.served_items(rows)).numpy().T
        for m in (with_prior, plain)
    ]
    added = (scores[0] - scores[1]) / 0.05  # over the temperature
    popularity = with_prior.served_items(rows)["log_popularity"].numpy() / 0.05
    np.testing.assert_allclose(added, np.tile(0.5 * popularity, (len(added), 1)), atol=1e-4)
