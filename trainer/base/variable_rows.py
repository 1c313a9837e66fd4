"""Rows of a variable wherever it lies: here, in a copy on each worker, in shards on servers."""

from __future__ import annotations

from trainer.base import replicas
from trainer.base.keras2 import tf


def read_rows(variable: tf.Variable | tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """`[..., D]` of the given rows `[...]`; with gradient, and without reading any other row."""
    if not isinstance(variable, tf.Variable | tf.Tensor):
        return tf.nn.embedding_lookup(variable, rows)
    return tf.gather(replicas.own_copy(variable), rows)


def write_rows(variable: tf.Variable, values: tf.Tensor, rows: tf.Tensor) -> None:
    """Replaces rows `[n]` of an untrained variable by `values [n, ...]`.

    Of a row that is named several times, with whatever values, one stays. Each replica writes to its
    own copy: they have to be given the same.
    """
    replicas.own_copy(variable).scatter_update(tf.IndexedSlices(values, rows))
