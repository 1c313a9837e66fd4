"""What the replicas of a synchronous training share: every replica scores its queries against all items.

A global batch of B examples lies in R equal parts on R replicas, part r on replica r. All functions
return their argument where there is one replica, so that a single process pays nothing, and are to
be called as the replica's function itself does, not from a `tf.function`, loop or condition inside
it (`merge_call` refuses those).

With the loss of each replica a mean over its own B / R queries, `part_of_mean` of it sums up over
the replicas to the mean over B, and gradients of `own_first` and `in_order` to its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainer.base.keras2 import tf


def number() -> int:
    """R; 1 outside a replica."""
    replica = tf.distribute.get_replica_context()
    return 1 if replica is None else int(replica.num_replicas_in_sync)


def own_copy(variable: tf.Variable) -> tf.Variable:
    """The copy of a mirrored variable that this replica holds; any other variable as it is.

    `tf.gather` of the mirrored variable itself would first copy the whole table, in every step.
    """
    strategy = getattr(variable, "distribute_strategy", None)
    if strategy is None:
        return variable
    copies, context = strategy.experimental_local_results(variable), None
    if len(copies) > 1:
        context = tf.distribute.get_replica_context()
    if context is None:
        return copies[0]
    return copies[int(tf.get_static_value(context.replica_id_in_sync_group)) % len(copies)]


def in_order(values: tf.Tensor) -> tf.Tensor:
    """`[n, ...]` of each replica -> `[R n, ...]`, the same on all; with gradient.

    Where n is known, as a sum of what each replica has in its own place: one message there and one
    back. TensorFlow's gathering takes two and three, since it asks each for its n; it is faster for
    what is large, for it sends half as much.
    """
    replicas = number()
    if replicas == 1:
        return values
    context, size = tf.distribute.get_replica_context(), values.shape[0]
    # What comes from the input has no device yet, and is gathered where its operand is.
    values = tf.identity(values)
    if size is None:
        return context.all_gather(values, axis=0)
    others = [[0, 0]] * (values.shape.rank - 1)
    placed = tf.pad(values, [[_index() * size, (replicas - 1 - _index()) * size], *others])
    if values.dtype.is_integer:
        placed = tf.cast(placed, tf.int64)  # int32 would be added up in host memory
    total = tf.cast(context.all_reduce(tf.distribute.ReduceOp.SUM, placed), values.dtype)
    return tf.ensure_shape(total, [replicas * size, *values.shape[1:]])


def own_first(values: tf.Tensor) -> tf.Tensor:
    """`in_order`, rolled so that the replica's own part is the first: row i's positive is row i."""
    if number() == 1:
        return values
    return tf.roll(in_order(values), -_index() * tf.shape(values)[0], axis=0)


def own_part(values: tf.Tensor) -> tf.Tensor:
    """`[R n, ...]`, the same on all replicas -> `[n, ...]`, the part of this one."""
    if number() == 1:
        return values
    size = values.shape[0] // number()
    return tf.slice(
        values, [_index() * size] + [0] * (values.shape.rank - 1), [size, *values.shape[1:]]
    )


def own_seed(seed: tf.Tensor) -> tf.Tensor:
    """`[2]`: a seed of the replica, for what is drawn for its own examples (dropout).

    These draws are the only ones that depend on R: each replica's examples are others anyway.
    """
    return seed if number() == 1 else tf.random.experimental.stateless_fold_in(seed, _index())


def part_of_mean(losses: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Scalars divided by R, so that their sum over the replicas is their mean."""
    return {name: value if number() == 1 else value / number() for name, value in losses.items()}


def _index() -> tf.Tensor:
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)
