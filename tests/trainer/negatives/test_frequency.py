"""The estimator's state: in graphs, in checkpoints and on several replicas."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import tf
from trainer.negatives.frequency import FrequencyEstimator


def batches(number: int, seed: int = 0, size: int = 16) -> list[tf.Tensor]:
    """Of 200 items, low ones often."""
    draws = np.random.default_rng(seed).random((number, size))
    return list(tf.constant((200 * draws**3).astype(np.int32)))


def feed(estimator: FrequencyEstimator, rows: list[tf.Tensor], first: int = 1) -> None:
    update = tf.function(estimator.update)
    for step, batch in enumerate(rows, first):
        update(batch, tf.constant(step, tf.int64))


def assert_same(one: FrequencyEstimator, other: FrequencyEstimator) -> None:
    np.testing.assert_array_equal(one.interval, other.interval)
    np.testing.assert_array_equal(one.last_seen, other.last_seen)


def test_a_stream_by_hand():
    # a = 1/2, B0 = 10. Item 7 at steps 1, 3: 1/2 (10 + 1) = 5.5, then 1/2 (5.5 + 2) = 3.75.
    # Item 9 at step 4 twice: 1/2 (10 + 4) = 7, once. Item 8 never: 10.
    estimator = FrequencyEstimator(1000, 2, 0.5, 10.0)
    feed(estimator, [tf.constant(rows) for rows in ([7], [5], [7, 5], [9, 5, 9])])
    rows = tf.constant([7, 9, 8])
    np.testing.assert_allclose(-estimator.log_probability(rows), np.log([3.75, 7, 10]), rtol=1e-6)
    # Per draw of 4: a quarter; exactly 1 - (1 - 1/10)^(1/4) = 0.025996 for item 8.
    per_draw = np.exp(estimator.log_probability(rows, 4))
    np.testing.assert_allclose(per_draw, [1 / 15, 1 / 28, 1 / 40], rtol=1e-6)
    exact = np.exp(estimator.log_probability(rows, 4, exact=True))
    np.testing.assert_allclose(exact[2], 0.025996, rtol=1e-4)


def test_items_in_one_bucket_update_once():
    # One bucket for all: B = 1/2 (10 + 1) = 5.5 whatever and however much comes at step 1.
    one, many = (FrequencyEstimator(1, 1, 0.5, 10.0) for _ in range(2))
    feed(one, [tf.constant([3])])
    feed(many, [tf.constant([1, 2, 3, 2, 99])])
    assert_same(one, many)
    np.testing.assert_array_equal(many.interval, [5.5])


def test_a_batch_in_parts_is_a_batch():
    # Two calls at one step, as gradient accumulation makes them.
    whole, parts = FrequencyEstimator(50, 2), FrequencyEstimator(50, 2)
    feed(whole, batches(5))
    for step, batch in enumerate(batches(5), 1):
        parts.update(batch[:7], tf.constant(step))
        parts.update(batch[7:], tf.constant(step))
    assert_same(whole, parts)


@given(seed=st.integers(0, 2**31 - 1))
def test_order_within_a_batch_does_not_matter(seed):
    ordered, shuffled = FrequencyEstimator(30, 2, 0.1), FrequencyEstimator(30, 2, 0.1)
    rng = np.random.default_rng(seed)
    for step, batch in enumerate(batches(6, seed), 1):
        ordered.update(batch, tf.constant(step))
        shuffled.update(tf.gather(batch, rng.permutation(16)), tf.constant(step))
    assert_same(ordered, shuffled)


@pytest.mark.parametrize("every", [1, 2, 7])
def test_an_item_seen_every_n_steps_is_estimated_at_1_in_n(every):
    estimator = FrequencyEstimator(1000, 2, 0.1)
    feed(
        estimator,
        [tf.constant([5 if step % every == 0 else 6]) for step in range(1, 200 * every)][:1400],
    )
    log_p = estimator.log_probability(tf.constant([5]))
    np.testing.assert_allclose(np.exp(log_p), [1 / every], rtol=1e-4)


def test_more_hashes_recover_items_that_share_a_bucket():
    rows = batches(600, size=4)
    held = Counter(int(row) for batch in rows[300:] for row in np.unique(batch))
    often = [row for row, count in held.items() if count >= 30]
    errors = []
    for hashes in (1, 4):
        estimator = FrequencyEstimator(60, hashes, 0.05)
        feed(estimator, rows)
        p = np.exp(estimator.log_probability(tf.constant(often)))
        errors.append(np.abs(p - [held[row] / 300 for row in often]).mean())
    assert errors[1] < errors[0] / 2


def test_eager_graph_and_loop_agree():
    eager, graph, loop = (FrequencyEstimator(50, 3, 0.1) for _ in range(3))
    rows = batches(20)
    feed(graph, rows)
    for step, batch in enumerate(rows, 1):
        eager.update(batch, tf.constant(step))

    @tf.function
    def all_steps(stacked):
        for step in tf.range(20):
            loop.update(stacked[step], step + 1)

    all_steps(tf.stack(rows))
    assert_same(eager, graph)
    assert_same(eager, loop)
    items = tf.range(200)
    np.testing.assert_array_equal(
        eager.log_probability(items), tf.function(eager.log_probability)(items)
    )


def test_learns_nothing_by_gradients():
    estimator = FrequencyEstimator(10, 2)
    assert not estimator.trainable_variables
    with tf.GradientTape() as tape:
        log_p = estimator.log_probability(tf.constant([1]))
    assert set(tape.gradient(log_p, estimator.variables)) == {None}


def test_nothing_of_the_size_of_the_table_is_computed():
    # What stands for a measurement: no operation gives or takes m * H values, but the variables.
    estimator = FrequencyEstimator(12_345, 2)

    def step(rows, number):
        estimator.update(rows, number)
        return estimator.log_probability(rows)

    graph = (
        tf.function(step)
        .get_concrete_function(tf.TensorSpec([8], tf.int32), tf.TensorSpec([], tf.int64))
        .graph
    )
    tensors = [tensor for op in graph.get_operations() for tensor in op.outputs]
    assert all((tensor.shape.num_elements() or 0) <= 1000 for tensor in tensors)
    types = Counter(op.type for op in graph.get_operations())
    assert types["ResourceGather"] == 3 and types["ResourceScatterUpdate"] == 2
    assert "ReadVariableOp" not in types


def test_checkpoint_goes_on_exactly(tmp_path: Path):
    rows = batches(40)
    whole, first, second = (FrequencyEstimator(50, 2, 0.1) for _ in range(3))
    feed(whole, rows)
    feed(first, rows[:25])
    path = tf.train.Checkpoint(frequency=first).write(str(tmp_path / "ckpt"))
    tf.train.Checkpoint(frequency=second).read(path).assert_consumed()
    feed(second, rows[25:], first=26)
    assert_same(whole, second)


@pytest.mark.parametrize("run", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_steps_that_go_backwards_are_refused(run):
    estimator = FrequencyEstimator(10)
    update = run(estimator.update)
    update(tf.constant([1]), tf.constant(9))
    with pytest.raises(tf.errors.InvalidArgumentError, match="received one before the last"):
        update(tf.constant([1]), tf.constant(8))


def test_an_empty_batch_changes_nothing():
    estimator = FrequencyEstimator(10)
    estimator.update(tf.zeros([0], tf.int32), tf.constant(1))
    assert_same(estimator, FrequencyEstimator(10))


REPLICAS = """
import sys
import numpy as np
from trainer.base.keras2 import tf
from trainer.negatives.frequency import FrequencyEstimator
from tests.trainer.negatives.test_frequency import assert_same, batches, feed

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
whole, rows, items = FrequencyEstimator(50, 2, 0.1), batches(16), tf.range(200)
with strategy.scope():
    mirrored = FrequencyEstimator(50, 2, 0.1)

def train_step(rows, step):
    mirrored.update(rows, step)
    return mirrored.log_probability(rows, 16), mirrored.log_probability(items)

@tf.function
def graph(halves, step):
    return strategy.run(train_step, (halves, step))

for step, batch in enumerate(rows, 1):
    number = tf.constant(step, tf.int64)
    cut = 8 if step % 2 else 5  # replicas of unequal size too
    parts = (batch[:cut], batch[cut:])
    halves = strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )
    run = graph if step > 4 else lambda h, s: strategy.run(train_step, (h, s))
    own, everyone = run(halves, number)
    whole.update(batch, number)
    expected = whole.log_probability(batch, 16).numpy()
    found = np.concatenate([part.numpy() for part in strategy.experimental_local_results(own)])
    # The variables are the same to the last bit; a log's last bit depends on its place in a vector.
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for part in strategy.experimental_local_results(everyone):
        np.testing.assert_array_equal(part, whole.log_probability(items))
    for variable in ("interval", "last_seen"):
        copies = strategy.experimental_local_results(getattr(mirrored, variable))
        assert len(copies) == 2
        for copy in copies:
            np.testing.assert_array_equal(copy, getattr(whole, variable))

# From two replicas to one, and on two again.
path = tf.train.Checkpoint(frequency=mirrored).write(sys.argv[1])
alone = FrequencyEstimator(50, 2, 0.1)
tf.train.Checkpoint(frequency=alone).read(path).assert_consumed()
assert_same(alone, whole)
with strategy.scope():
    again = FrequencyEstimator(50, 2, 0.1)
tf.train.Checkpoint(frequency=again).read(path).assert_consumed()
for copy in strategy.experimental_local_results(again.interval):
    np.testing.assert_array_equal(copy, whole.interval)
print("replicas agree")
"""


@pytest.mark.slow
def test_replicas_are_exactly_one_process_with_the_whole_batch(root: Path, tmp_path: Path):
    # In a process of its own: TensorFlow divides the CPU only before it starts.
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS, str(tmp_path / "ckpt")],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("replicas agree\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"buckets": 0}, "buckets: expected a whole number from 1 to 2147483648, received 0"),
        ({"buckets": 2**31 + 1}, "buckets: expected .* received 2147483649"),
        ({"buckets": 10.5}, "buckets: expected a whole number .* received 10.5"),
        ({"hashes": 0}, "hashes: expected a whole number from 1 to 64, received 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected 0 < a <= 1, received 0.0"),
        ({"learning_rate": 1.5}, "learning_rate: .* received 1.5"),
        ({"learning_rate": float("nan")}, "learning_rate: .* received nan"),
        ({"initial_interval": 0.5}, "initial_interval: expected batches.* received 0.5"),
        ({"initial_interval": float("inf")}, "initial_interval: .* received inf"),
    ],
)
def test_refuses_impossible_values(arguments, message):
    with pytest.raises(LongtailError, match=message):
        FrequencyEstimator(**{"buckets": 10, **arguments})
