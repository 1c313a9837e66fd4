"""The task in a model of one's own: probabilities, uniform draws, bank and stream from its arguments."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import pytest

from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import keras, tf, tfrs
from trainer.losses.retrieval_task import RetrievalTask

COUNTS = np.array([0, 8, 4, 2, 1, 1])
IDS = np.array([[1, 2, 1], [3, 1, 4], [2, 1, 5]])
MEMORY = {"size": 6, "warm_up_steps": 2}
BOTH = pytest.mark.parametrize(
    "run", [lambda f: f, partial(tf.function, autograph=False)], ids=["eager", "graph"]
)
generator = np.random.default_rng(0)
QUERIES = generator.normal(size=[3, 3, 4]).astype(np.float32)
ITEMS = generator.normal(size=[6, 4]).astype(np.float32)


def ask(task: RetrievalTask, batch: int, run: Any = lambda f: f, training: bool = True) -> Any:
    """The loss of a batch, its candidates embedded by a table that never moves."""

    def loss() -> Any:
        ids = task.candidates(tf.constant(IDS[batch]))
        items = tf.gather(ITEMS, ids)
        return task(tf.constant(QUERIES[batch]), items, candidate_ids=ids, training=training)

    return run(loss)()


def by_hand(batch: int, ids: Any, log_p: Any, **settings: Any) -> Any:
    """The same of a task that is given candidates and probabilities."""
    task = RetrievalTask(temperature=0.5, **settings)
    return task(
        tf.constant(QUERIES[batch]),
        tf.gather(ITEMS, ids),
        candidate_ids=tf.constant(ids),
        candidate_log_q=tf.constant(log_p, tf.float32),
    )


@BOTH
def test_item_counts_are_the_probabilities(run: Any) -> None:
    task = RetrievalTask(temperature=0.5, item_counts=COUNTS)
    expected = by_hand(0, IDS[0], np.log(COUNTS[IDS[0]] / 16))
    np.testing.assert_allclose(ask(task, 0, run), expected, rtol=1e-6)


@BOTH
@pytest.mark.parametrize(("log_q", "drawn"), [("standard", 9), ("corrected", 8)])
def test_the_bank_adds_the_batches_before(run: Any, log_q: str, drawn: int) -> None:
    task = RetrievalTask(
        temperature=0.5, log_q=log_q, item_counts=COUNTS, memory=MEMORY, batch_size=3, uniform=2
    )
    for batch in (0, 1):
        ask(task, batch)
    ids = task.candidates(tf.constant(IDS[2]))
    every = np.concatenate([ids.numpy(), IDS[0], IDS[1]])
    q = drawn / (drawn + 2) * COUNTS[every] / 16 + 2 / (drawn + 2) / 5
    # Of the bank's items the loss knows what they were sampled with, log of counts / 16.
    expected = by_hand(2, every, np.log(q), log_q=log_q)
    np.testing.assert_allclose(ask(task, 2, run), expected, rtol=1e-5)


def test_uniform_items_change_with_training_steps_alone() -> None:
    task = RetrievalTask(item_counts=COUNTS, uniform=40)
    first = task.candidates(tf.constant(IDS[0])).numpy()
    assert first[:3].tolist() == IDS[0].tolist()
    assert set(first[3:]) == {1, 2, 3, 4, 5}
    ask(task, 0, training=False)
    np.testing.assert_array_equal(task.candidates(tf.constant(IDS[0])), first)
    ask(task, 0)
    assert (task.candidates(tf.constant(IDS[0])).numpy() != first).any()


def test_the_stream_counts_training_batches_alone() -> None:
    task = RetrievalTask(
        temperature=0.5,
        probabilities="streamed",
        batch_size=3,
        frequency={"buckets": 64, "initial_interval": 1.0},
    )
    untouched = [variable.numpy() for variable in task.variables]
    ask(task, 0, training=False)
    for variable, before in zip(task.variables, untouched, strict=True):
        np.testing.assert_array_equal(variable, before)
    step = tf.function(lambda: ask(task, 0), autograph=False)
    for _ in range(300):  # every batch is {1, 2, 1}: each occurs in it, p = 1 - learning rate
        loss = step()
    q = 1 - 0.05 ** (1 / 3)
    np.testing.assert_allclose(loss, by_hand(0, IDS[0], np.log([q, q, q])), rtol=1e-3)


@pytest.mark.slow
def test_in_a_model_of_tfrs() -> None:
    class Model(tfrs.Model):
        def __init__(self) -> None:
            super().__init__()
            # Seeded, since Keras draws seeds in a way that Python 3.10 warns of.
            self.users, self.items = (
                keras.layers.Embedding(6, 4, keras.initializers.RandomUniform(seed=seed))
                for seed in (1, 2)
            )
            self.task = RetrievalTask(
                temperature=0.5, log_q="corrected", item_counts=COUNTS, uniform=2, memory=MEMORY,
                batch_size=3,
            )  # fmt: skip

        def compute_loss(self, features: Any, training: bool = False) -> Any:
            ids = self.task.candidates(features["item"])
            users, items = self.users(features["user"]), self.items(ids)
            return self.task(users, items, candidate_ids=ids, training=training)

    model = Model()
    model.compile(optimizer=keras.optimizers.Adam(0.1))
    batches = tf.data.Dataset.from_tensor_slices({"user": IDS, "item": IDS})
    model.fit(batches, epochs=30, verbose=0)
    scores = model.users(np.arange(1, 6)).numpy() @ model.items(np.arange(1, 6)).numpy().T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]  # user n takes item n
    assert len(model.trainable_variables) == 2
    assert model.evaluate(batches, return_dict=True, verbose=0)["loss"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"uniform": 2}, r"item_counts is missing: .*'standard'.*probabilities='streamed'"),
        ({"uniform": 2, "log_q": "none"}, r"num_items is missing: uniform"),
        ({"item_counts": COUNTS, "log_q": "none"}, r"item_counts: expected None .*num_items"),
        ({"item_counts": COUNTS, "num_items": 6}, r"num_items: expected 5, .*received 6"),
        ({"item_counts": [[1, 2]]}, r"item_counts: expected \[N \+ 1\] .*shape \(1, 2\)"),
        ({"item_counts": [0, -1]}, r"lowest -1"),
        ({"item_counts": [0, 0]}, r"received zeros alone"),
        ({"item_counts": COUNTS, "memory": MEMORY}, r"batch_size: expected .*memory needs it"),
        (
            {"item_counts": COUNTS, "memory": MEMORY, "batch_size": 2},
            r"memory\.size: expected at most .* = 4, received 6",
        ),
        (
            {"item_counts": COUNTS, "memory": {**MEMORY, "momentum": 0.9}, "batch_size": 3},
            r"memory\.momentum: expected None",
        ),
        ({"loss": {}, "temperature": 0.1}, r"loss: expected None beside its fields"),
    ],
)
def test_refuses_arguments_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LongtailError, match=message):
        RetrievalTask(**arguments)


def test_refuses_calls_that_leave_out_or_add() -> None:
    task = RetrievalTask(item_counts=COUNTS, uniform=2)
    given = (tf.constant(QUERIES[0]), tf.constant(ITEMS[:5]))
    with pytest.raises(ValueError, match="training is missing: expected True or False"):
        task(*given, candidate_ids=tf.range(5))
    with pytest.raises(ValueError, match=r"candidate_ids: expected integers .*received string"):
        task(*given, candidate_ids=tf.constant(list("abcde")), training=True)
    with pytest.raises(ValueError, match=r"candidate_ids: .*received None"):
        task(*given, training=True)
    log_q = tf.zeros([5])
    with pytest.raises(ValueError, match=r"candidate_log_q: expected None, since the task knows"):
        task(*given, candidate_ids=tf.range(5), candidate_log_q=log_q, training=True)


def test_config_round_trip() -> None:
    task = RetrievalTask(
        temperature=0.5, item_counts=COUNTS, memory=MEMORY, batch_size=3, uniform=2, seed=7
    )
    again = RetrievalTask.from_config(json.loads(json.dumps(task.get_config())))
    assert again.get_config() == task.get_config()
    for batch in range(3):
        np.testing.assert_allclose(ask(again, batch), ask(task, batch), rtol=1e-6)
