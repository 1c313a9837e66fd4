"""Adds up the gradients of the replicas of a synchronous training, in few messages.

TensorFlow's own sum sends three messages a table and, within a loop of steps, mixes up the lengths
of sparse gradients (2.16: "Shape mismatch in the collective instance").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from trainer.base import replicas
from trainer.base.keras2 import tf

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices | None


def summed(gradients: Sequence[Gradient]) -> list[Gradient]:
    """The sums over all replicas, in the order of the arguments, the same on every replica.

    Dense gradients travel as one vector. Of a sparse one the rows of each replica follow one
    another, each row once a replica: whoever applies them adds up what is there several times.
    """
    found = list(gradients)
    dense = [i for i, each in enumerate(found) if isinstance(each, tf.Tensor)]
    sparse = [i for i, each in enumerate(found) if isinstance(each, tf.IndexedSlices)]
    if dense:
        for i, total in zip(dense, _summed_dense([found[i] for i in dense]), strict=True):
            found[i] = total
    if sparse:
        for i, rows in zip(sparse, _gathered([found[i] for i in sparse]), strict=True):
            found[i] = rows
    return found


def once(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Each row once, with the sum of its gradients."""
    rows, at = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, at, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _summed_dense(gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    flat = tf.concat([tf.reshape(each, [-1]) for each in gradients], axis=0)
    total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, flat)
    parts = tf.split(total, [each.shape.num_elements() for each in gradients])
    return [tf.reshape(part, each.shape) for part, each in zip(parts, gradients, strict=True)]


def _gathered(gradients: Sequence[tf.IndexedSlices]) -> list[tf.IndexedSlices]:
    """Sparse gradients of all replicas, gathered at once: rows of each table, indices, values."""
    gradients = [once(each) for each in gradients]
    sizes = tf.stack([tf.size(each.indices) for each in gradients])
    indices = [tf.cast(each.indices, tf.int32) for each in gradients]
    # The bits of the integers; nothing computes with what they would be as numbers. Each by itself:
    # a GPU would join int32 in the memory of the host.
    heads = [tf.bitcast(each, tf.float32) for each in (sizes, *indices)]
    values = [tf.reshape(each.values, [-1]) for each in gradients]
    left = replicas.in_order(tf.concat([*heads, *values], axis=0))
    widths, tables = [each.values.shape[1] for each in gradients], len(gradients)
    rows: list[list[tf.Tensor]] = [[] for _ in gradients]
    slices: list[list[tf.Tensor]] = [[] for _ in gradients]
    for _ in range(replicas.number()):
        sizes = tf.unstack(tf.bitcast(left[:tables], tf.int32), tables)
        lengths = [tables, *sizes, *(n * width for n, width in zip(sizes, widths, strict=True))]
        rest = tf.size(left) - tf.add_n(lengths)
        _, *parts, left = tf.split(left, tf.stack([*lengths, rest]), num=2 * tables + 2)
        for table, width in enumerate(widths):
            of_replica = tf.bitcast(parts[table], tf.int32)
            rows[table].append(tf.cast(of_replica, gradients[table].indices.dtype))
            slices[table].append(tf.reshape(parts[tables + table], [-1, width]))
    return [
        tf.IndexedSlices(
            tf.concat(of_values, axis=0),
            tf.concat(of_rows, axis=0),
            each.dense_shape,
        )
        for each, of_rows, of_values in zip(gradients, rows, slices, strict=True)
    ]
