"""The chain of the main task against a slow reference, by hand, and at its traps."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.base.errors import LongtailError
from tests.trainer.maths import BOTH
from trainer.base.keras2 import keras, tf, tfrs
from trainer.config.loss import LossConfig
from trainer.losses.retrieval_task import RetrievalTask as Task

quick = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31 - 1)


def retrieval_task(
    *, metrics=None, batch_metrics=None, loss_metrics=None, name=None, log_q=True, **loss
):
    """The task with the fields of its loss; `log_q` True is the standard correction."""
    settings = LossConfig(log_q="standard" if log_q else "none", **loss)
    return Task(
        settings, metrics=metrics, batch_metrics=batch_metrics, loss_metrics=loss_metrics, name=name
    )


def batch(seed, num_queries=4, num_candidates=6, num_ids=4):
    generator = np.random.default_rng(seed)
    return {
        "query": generator.normal(size=[num_queries, 3]).astype(np.float32),
        "candidates": generator.normal(size=[num_candidates, 3]).astype(np.float32),
        "weights": generator.uniform(0, 2, num_queries).astype(np.float32),
        "log_q": np.log(generator.uniform(1e-12, 1, num_candidates)).astype(np.float32),
        "ids": generator.integers(1, num_ids, num_candidates),
    }


def reference(data, temperature, log_q=True, hits=True):
    """The loss with its order of operations written out, in float64 and with loops."""
    total = 0.0
    for i, query in enumerate(data["query"].astype(np.float64)):
        logits = {}
        for j, item in enumerate(data["candidates"].astype(np.float64)):
            if hits and j != i and data["ids"][j] == data["ids"][i]:
                continue
            logits[j] = query @ item / temperature - (data["log_q"][j] if log_q else 0)
        top = max(logits.values())
        normalizer = sum(math.exp(logit - top) for logit in logits.values())
        total -= data["weights"][i] * (logits[i] - top - math.log(normalizer))
    return total / len(data["query"])


def loss_of(task, data, run=lambda f: f, **options):
    return run(task)(
        tf.constant(data["query"]),
        tf.constant(data["candidates"]),
        sample_weight=tf.constant(data["weights"]),
        candidate_log_q=tf.constant(data["log_q"]),
        candidate_ids=tf.constant(data["ids"]),
        **options,
    )


@BOTH
def test_by_hand(run):
    # One feature; queries 1, 1; candidates 1, 0, 1 with ids 8, 9, 8; q = 1/2, 1/4, 1/4; tau = 1/2.
    # Row 0 (id 8): scores 2, 0, masked. Minus ln q: 2 + ln 2, ln 4.
    #   P = 2e^2 / (2e^2 + 4) = 14.778112 / 18.778112 = 0.786986, -ln P = 0.239545
    # Row 1 (id 9): scores 2, 0, 2. Minus ln q: 2 + ln 2, ln 4, 2 + ln 4.
    #   P = 4 / (2e^2 + 4 + 4e^2) = 4 / 48.334337 = 0.082757, -ln P = 2.491848
    # Rewards 3 and 1: (3 * 0.239545 + 2.491848) / 2 = 1.605241.
    task = retrieval_task(temperature=0.5)
    loss = run(task)(
        tf.constant([[1.0], [1.0]]),
        tf.constant([[1.0], [0.0], [1.0]]),
        sample_weight=tf.constant([3.0, 1.0]),
        candidate_log_q=tf.math.log([0.5, 0.25, 0.25]),
        candidate_ids=tf.constant([8, 9, 8]),
    )
    np.testing.assert_allclose(loss, 1.605241, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("log_q", [False, True])
@pytest.mark.parametrize("hits", [False, True])
def test_against_the_reference(run, log_q, hits):
    data = batch(5)
    task = retrieval_task(temperature=0.3, log_q=log_q, remove_accidental_hits=hits)
    expected = reference(data, 0.3, log_q=log_q, hits=hits)
    np.testing.assert_allclose(loss_of(task, data, run), expected, rtol=1e-4)


@quick
@given(seed=seeds, num_queries=st.integers(1, 5), extra=st.integers(0, 3))
def test_against_the_reference_at_random(seed, num_queries, extra):
    data = batch(seed, num_queries, num_queries + extra)
    loss = loss_of(retrieval_task(temperature=0.5), data)
    np.testing.assert_allclose(loss, reference(data, 0.5), rtol=1e-3, atol=1e-4)


@quick
@given(seed=seeds)
def test_permuting_the_batch_changes_nothing(seed):
    data = batch(seed, 5, 5)
    order = np.random.default_rng(seed).permutation(5)
    permuted = {name: values[order] for name, values in data.items()}
    task = retrieval_task()
    np.testing.assert_allclose(loss_of(task, permuted), loss_of(task, data), rtol=1e-4, atol=1e-4)


@quick
@given(seed=seeds)
def test_repeating_the_batch_does_not_scale_the_loss(seed):
    # With accidental hits removed, a second copy of a batch of one adds no negatives.
    data = batch(seed, 1, 1)
    doubled = {name: np.concatenate([values, values]) for name, values in data.items()}
    np.testing.assert_array_equal(loss_of(retrieval_task(), data), 0.0)
    np.testing.assert_array_equal(loss_of(retrieval_task(), doubled), 0.0)
    # Without removal each row has its own copy as only negative, P = 1/2, in a batch of any size.
    plain = retrieval_task(remove_accidental_hits=False)
    expected = data["weights"][0] * math.log(2)
    np.testing.assert_allclose(loss_of(plain, doubled), expected, rtol=1e-5)


@pytest.mark.parametrize("per_draw", [0.5, 1e-12])
def test_uniform_q_changes_no_gradient(per_draw):
    data = batch(1)
    data["log_q"] = np.full(6, math.log(per_draw), np.float32)
    query = tf.constant(data["query"])

    def gradient(task):
        with tf.GradientTape() as tape:
            tape.watch(query)
            loss = loss_of(task, {**data, "query": query})
        return tape.gradient(loss, query)

    np.testing.assert_allclose(
        gradient(retrieval_task()), gradient(retrieval_task(log_q=False)), atol=1e-3, rtol=1e-3
    )


def test_popular_item_is_pushed_down_less():
    # The gradient of the loss with respect to a negative's score is its softmax mass over B. The
    # popular negative (q = 0.5) gets a quarter of the mass of the rare one (q = 0.125).
    data = {
        "query": np.array([[1.0]], np.float32),
        "candidates": np.array([[1.0], [1.0], [1.0]], np.float32),
        "weights": np.ones(1, np.float32),
        "log_q": np.log([0.25, 0.5, 0.125]).astype(np.float32),
        "ids": np.array([1, 2, 3]),
    }
    candidates = tf.constant(data["candidates"])
    with tf.GradientTape() as tape:
        tape.watch(candidates)
        loss = loss_of(retrieval_task(temperature=1.0), {**data, "candidates": candidates})
    # exp(-ln q) = 4, 2, 8: masses 4/14, 2/14, 8/14; the positive's gradient is its mass - 1.
    gradient = tape.gradient(loss, candidates).numpy()[:, 0]
    np.testing.assert_allclose(gradient, [-10 / 14, 2 / 14, 8 / 14], rtol=1e-5)


@BOTH
def test_extremes(run):
    data = batch(2)
    data["query"] = data["query"] * 1e28  # logits of 1e30
    assert np.isfinite(loss_of(retrieval_task(), data, run))
    data = batch(2)
    data["ids"][:] = 1  # every candidate is the same item: everything masked but the positive
    np.testing.assert_array_equal(loss_of(retrieval_task(), data, run), 0.0)


@BOTH
def test_score_mask_takes_candidates_out(run):
    data = batch(3)
    keep = np.ones([4, 6], bool)
    keep[:, 4:] = False
    task = retrieval_task()
    masked = loss_of(task, data, run, score_mask=tf.constant(keep))
    shortened = {**data, **{name: data[name][:4] for name in ("candidates", "log_q", "ids")}}
    np.testing.assert_allclose(masked, loss_of(task, shortened), rtol=1e-6)


class Recorder(tfrs.metrics.Factorized):
    """Keeps what the task hands to a full-corpus metric."""

    def update_state(self, query, candidates, ids=None, sample_weight=None):
        self.received = (query, candidates, ids, sample_weight)


def test_full_corpus_metrics_get_the_positives_only():
    # C = 6 > B = 4: with the ids of all six the metric would judge the wrong rows.
    recorder = Recorder()
    data = batch(4)
    task = retrieval_task(metrics=recorder)
    loss_of(task, data, compute_metrics=False)
    assert not hasattr(recorder, "received")
    loss_of(task, data)  # as in TFRS they are computed unless told otherwise
    _, candidates, ids, weights = recorder.received
    np.testing.assert_array_equal(candidates, data["candidates"][:4])
    np.testing.assert_array_equal(ids, data["ids"][:4])
    np.testing.assert_array_equal(weights, data["weights"])


@BOTH
def test_batch_and_loss_metrics(run):
    accuracy = keras.metrics.CategoricalAccuracy()
    mean_loss = keras.metrics.Mean()
    task = retrieval_task(
        log_q=False,
        remove_accidental_hits=False,
        batch_metrics=[accuracy],
        loss_metrics=[mean_loss],
    )
    # Row 0 ranks its own candidate first, row 1 does not; the third candidate is a negative.
    loss = run(task)(tf.constant([[1.0, 0.0], [1.0, 0.0]]), tf.eye(3, 2))
    np.testing.assert_allclose(accuracy.result(), 0.5)
    np.testing.assert_allclose(mean_loss.result(), loss)


def test_ignores_log_q_unless_asked():
    data = batch(6)
    task = retrieval_task(temperature=0.3, log_q=False)
    np.testing.assert_allclose(loss_of(task, data), reference(data, 0.3, log_q=False), rtol=1e-4)


def test_refuses_to_guess_missing_arguments():
    query = tf.ones([2, 3])
    with pytest.raises(ValueError, match=r"candidate_log_q is missing: .* log_q 'standard'"):
        retrieval_task()(query, query, candidate_ids=tf.constant([1, 2]))
    with pytest.raises(
        ValueError, match=r"candidate_ids is missing: .* remove_accidental_hits True"
    ):
        retrieval_task(log_q=False)(query, query)
    with pytest.raises(ValueError, match=r"groups is missing: one user per query"):
        loss_of(retrieval_task(kind="bsl"), batch(4))
    with pytest.raises(ValueError, match=r"score_mask: expected one value per candidate \[C\]"):
        loss_of(retrieval_task(kind="gramian"), batch(4), score_mask=tf.ones([4, 4], tf.bool))
    with pytest.raises(ValueError, match=r"known_mask: expected None for loss kind 'gramian'"):
        loss_of(retrieval_task(kind="gramian"), batch(4), known_mask=tf.ones([4, 6], tf.bool))
    with pytest.raises(LongtailError, match=r"hardest: expected None .* log_q 'corrected'"):
        Task(LossConfig(log_q="corrected"), hardest=2)


@BOTH
def test_gramian_leaves_out_what_is_not_considered(run):
    data = batch(7)
    task = retrieval_task(kind="gramian", remove_accidental_hits=False)
    there = {**data, **{name: data[name][:4] for name in ("candidates", "log_q", "ids")}}
    considered = tf.constant([True] * 4 + [False] * 2)
    masked = loss_of(task, data, run, score_mask=considered)
    np.testing.assert_allclose(masked, loss_of(task, there), rtol=1e-6)
    assert abs(float(masked - loss_of(task, data))) > 1e-3


def test_config_round_trip():
    task = Task(LossConfig(temperature=0.2, log_q="none"), hardest=3, name="main")
    config = json.loads(json.dumps(task.get_config()))
    assert config["loss"]["temperature"] == 0.2 and config["hardest"] == 3
    clone = Task.from_config(config)
    assert clone.get_config() == config
    assert isinstance(keras.layers.deserialize(keras.layers.serialize(task)), Task)


@BOTH
def test_refused_items_are_negatives_that_are_there_for_certain(run):
    # Uniform Q = 1/4 over 4 items, B = C = 2 draws: the other draw counts as 1 / (2/4) = 2 items,
    # a refused item as itself. All scores 0: P = 2 / (2 + 2 + 1).
    task = retrieval_task(temperature=1.0, remove_accidental_hits=False)
    loss = run(task)(
        tf.zeros([2, 3]),
        tf.zeros([2, 3]),
        candidate_log_q=tf.math.log([0.25, 0.25]),
        refused_embeddings=tf.zeros([2, 2, 3]),
        refused_mask=tf.constant([[True, False], [True, False]]),
    )
    np.testing.assert_allclose(loss, np.log(5 / 2), rtol=1e-6)


@BOTH
def test_masked_candidates_carry_no_mass_but_the_positive_stays(run):
    data = batch(4)
    task = retrieval_task(temperature=0.3)
    nobody = tf.zeros([len(data["ids"])], tf.bool)
    np.testing.assert_allclose(loss_of(task, data, run, score_mask=nobody), 0.0, atol=1e-6)


def all_masks_reference(kind, log_q, data, considered, known, refused, is_refused, bce_weight):
    """Each loss with what was drawn, what counts and what is certain written out, by the row."""
    total, q = 0.0, np.exp(data["log_q"].astype(np.float64))
    queries, items = (data[name].astype(np.float64) for name in ("query", "candidates"))
    log_z = math.log(100)
    for i, query in enumerate(queries):
        drawn = [j for j in range(len(items)) if j != i and considered[j]]
        others = [j for j in drawn if data["ids"][j] != data["ids"][i]]
        left = [j for j in others if not known[i, j]]
        s, own = (
            items @ query,
            [query @ r for r, there in zip(refused[i], is_refused[i], strict=True) if there],
        )
        if (kind, log_q) == ("bce", "standard"):
            odds = lambda score, p: math.exp(score - log_z) / (bce_weight * p)  # noqa: E731
            loss = math.log1p(1 / odds(s[i], q[i]))
            against = [math.log1p(odds(s[j], q[j])) for j in left]
            against += [math.log1p(odds(score, 1 / len(drawn))) for score in own]
            loss += bce_weight * sum(against) / len(drawn)
        elif log_q == "corrected":
            z = sum(math.exp(s[j]) * (1 - q[i]) / (len(others) * q[j]) for j in left)
            loss = math.log1p((z + sum(map(math.exp, own))) / math.exp(s[i]))
        else:  # each column, the positive's too, stands for 1 / Q items
            mass = {j: math.exp(s[j]) / q[j] for j in [i, *left]}
            certain = sum(map(math.exp, own)) * (len(drawn) + 1)
            loss = -math.log(mass[i] / (sum(mass.values()) + certain))
        total += data["weights"][i] * loss / len(queries)
    return total


@BOTH
@pytest.mark.parametrize("with_refused", [False, True])
@pytest.mark.parametrize(
    "form",
    [
        {"log_q": "standard"},
        {"log_q": "corrected"},
        {"kind": "bce", "log_q": "standard", "bce_weight": 3.0},
    ],
    ids=["standard", "corrected", "nce"],
)
def test_what_is_drawn_masked_and_certain_counts_as_the_reference_says(run, form, with_refused):
    generator = np.random.default_rng(11)
    data = batch(11, num_queries=4, num_candidates=10, num_ids=5)
    data["log_q"] = np.log(generator.dirichlet(np.ones(11))[:10]).astype(np.float32)
    considered = generator.random(10) < 0.7
    considered[:4] = [True, False, True, True]  # a positive always counts
    known = generator.random([4, 10]) < 0.4
    np.fill_diagonal(known, False)
    refused = generator.normal(size=[4, 2, 3]).astype(np.float32)
    is_refused = np.array([[True, True], [True, False], [False, False], [False, True]])
    is_refused &= with_refused
    more = {"refused_embeddings": refused, "refused_mask": is_refused} if with_refused else {}
    loss = loss_of(
        Task(LossConfig(temperature=1.0, **form), num_items=100),
        data,
        run,
        score_mask=tf.constant(considered),
        known_mask=tf.constant(known),
        **more,
    )
    expected = all_masks_reference(
        form.get("kind"),
        form["log_q"],
        data,
        considered,
        known,
        refused,
        is_refused,
        form.get("bce_weight"),
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@BOTH
def test_bsl_corrects_the_denominator_alone(run):
    # Scores 0, two positives of one user, log Q -5 and -12, beside log Q -8: see the values in
    # functional/test_pair_losses.py. With accidental hits among the columns nothing else changes.
    candidates = tf.Variable(tf.zeros([3, 3]))
    task = retrieval_task(kind="bsl", bsl_ratio=1.0, temperature=1.0)

    def of():
        with tf.GradientTape() as tape:
            loss = task(
                tf.eye(2, 3),
                candidates,
                candidate_log_q=tf.constant([-5.0, -12.0, -8.0]),
                candidate_ids=tf.constant([4, 5, 6]),
                groups=tf.constant([9, 9]),
            )
        return loss, tape.gradient(loss, candidates)

    loss, gradient = run(of)()
    np.testing.assert_allclose(loss, 3.5190449, rtol=1e-6)
    # Query i is the i-th unit vector, so entry (i, i) is the slope of s_ii, over B = 2.
    np.testing.assert_allclose(
        [gradient[0, 0], gradient[1, 1]], [-0.99910533 / 2, -0.01886481 / 2], rtol=1e-5
    )


@pytest.mark.parametrize("log_q", ["none", "standard"])
def test_the_hardest_of_all_negatives_are_all_negatives(log_q):
    data = batch(6)
    every = len(data["ids"]) - 1
    plain, hardest = (
        loss_of(Task(LossConfig(temperature=0.3, log_q=log_q), hardest=n), data)
        for n in (None, every)
    )
    np.testing.assert_allclose(hardest, plain, rtol=1e-6)


def test_the_hardest_two_by_hand():
    # Row scores 1, 0, 3, 2 (positive first): the two hardest are e^3 and e^2, and 0 is left out.
    task = Task(LossConfig(temperature=1.0, log_q="none", remove_accidental_hits=False), hardest=2)
    loss = task(tf.ones([1, 1]), tf.constant([[1.0], [0.0], [3.0], [2.0]]))
    expected = math.log(math.exp(1) + math.exp(3) + math.exp(2)) - 1
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
