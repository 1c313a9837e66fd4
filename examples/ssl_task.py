"""Self-supervision of an item tower of one's own, a Keras model over a dict of features.

    python examples/ssl_task.py

Items without events teach a tower nothing by themselves. The task shows it two views of an item,
each with other features masked, and asks which views belong together. Printed is how often an item
with its brand hidden is still nearest to its own full vector, before and after.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from trainer.base.keras2 import keras, tf
from trainer.ssl.task import SelfSupervisedTask

NUM_ITEMS, BATCH, DIM, ALPHA = 2_000, 256, 32, 1.0
SIZES = {"category": 40, "brand": 200, "words": 300}


def catalogue(generator: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """Features by row, from 1; index 0 is what a masked feature becomes, so no value may be 0.

    A brand sells in one category, and the words of a title come mostly from its brand: features
    that can be told from each other, as in a real catalogue.
    """
    brand = generator.integers(1, SIZES["brand"], NUM_ITEMS)
    usual = generator.integers(1, SIZES["words"], [SIZES["brand"], 6])
    words = usual[brand[:, None], generator.integers(0, 6, [NUM_ITEMS, 4])]
    return {"category": 1 + brand % (SIZES["category"] - 1), "brand": brand, "words": words}


def item_tower() -> keras.Model:
    """An ordinary functional model: name -> indices, to a vector of length 1."""
    shapes: dict[str, tuple[int, ...]] = {"category": (), "brand": (), "words": (4,)}
    inputs = {name: keras.Input(shape, name=name, dtype="int64") for name, shape in shapes.items()}
    parts = []
    for name, indices in inputs.items():
        embedded = keras.layers.Embedding(SIZES[name], 16)(indices)
        several = bool(shapes[name])
        parts.append(tf.reduce_mean(embedded, axis=1) if several else embedded)
    hidden = keras.layers.Dense(64, activation="relu")(tf.concat(parts, axis=-1))
    vector = tf.math.l2_normalize(keras.layers.Dense(DIM)(hidden), axis=-1)
    return keras.Model(inputs, vector, name="item_tower")


def recognised(tower: keras.Model, items: dict[str, tf.Tensor]) -> float:
    """Share of items whose vector without the brand has none nearer than its own full vector."""
    hidden = {**items, "brand": tf.zeros_like(items["brand"])}
    similar = tf.matmul(tower(hidden), tower(items), transpose_b=True)
    own = tf.linalg.diag_part(similar)[:, None]
    return float(tf.reduce_mean(tf.cast(tf.reduce_all(similar <= own + 1e-6, axis=1), tf.float32)))


def main() -> None:
    """Trains the tower by the task alone; beside a main loss, add ALPHA times this one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    steps = parser.parse_args().steps
    keras.utils.set_random_seed(0)
    table = {name: tf.constant(v) for name, v in catalogue(np.random.default_rng(0)).items()}
    tower, optimizer = item_tower(), keras.optimizers.Adam(0.003)
    # Only features that say something of an item without its id: an id would give the answer away.
    task = SelfSupervisedTask("complementary", list(SIZES), temperature=0.1)

    @tf.function(autograph=False)  # it would convert all of Keras, for seconds
    def train_step(step: tf.Tensor) -> tf.Tensor:
        # Drawn uniformly from the catalogue and not from the log: the tail teaches as much.
        rows = tf.random.stateless_uniform([BATCH], [0, step], 0, NUM_ITEMS, tf.int64)
        batch = {name: tf.gather(values, rows) for name, values in table.items()}
        with tf.GradientTape() as tape:
            loss = ALPHA * task(batch, item_tower=tower, step=step)
        variables = tower.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    before = recognised(tower, table)
    for number in range(steps):
        loss = train_step(tf.constant(number, tf.int64))  # a tensor: a number would trace each step
    print(f"loss of the last step {float(loss):.3f}; chance is {np.log(BATCH):.3f}")
    print(f"recognised without brand: {before:.3f} before, {recognised(tower, table):.3f} after")


if __name__ == "__main__":
    main()
