"""Which candidates serve as negatives: the hardest ones, and none that the user is known to want."""

from __future__ import annotations

from trainer.functional import masks
from trainer.keras_gate import tf

# A table of 256 kB stays in the cache; of 2,048 candidates 1 in 30 shares a bucket with another.
_NUM_BUCKETS = 65_536
_USERS_PER_WORD = 16


def keep_hardest(scores: tf.Tensor, n: int) -> tf.Tensor:
    """Masks all but the row's positive and its n highest-scoring other columns.

    Columns that tie with the n-th all stay, so it can be more than n; where fewer than n are
    unmasked, these stay.

    Args:
      scores: `[B, C]` logits, already masked where wanted; corrected by logQ, popular items come
        less to the top. Row i's positive is column i.
      n: number of negatives to keep, >= 0; all from C - 1 on.

    Returns:
      `[B, C]` logits, masked as by `masks.apply_mask`.

    Raises:
      ValueError: n is negative.
    """
    if n < 0:
        raise ValueError(f"n: expected a number of negatives >= 0, received {n}")
    constant = tf.stop_gradient(scores)
    num_rows = tf.shape(scores)[0]
    lowest = tf.constant(scores.dtype.min, scores.dtype)
    if n == 0:
        easier = tf.ones_like(constant, tf.bool)
    elif scores.shape[1] is not None and n >= scores.shape[1] - 1:
        return scores
    else:
        others = tf.linalg.set_diag(constant, tf.fill([num_rows], lowest))
        easier = constant < _nth_highest(others, n)[:, tf.newaxis]
    return masks.apply_mask(scores, tf.linalg.set_diag(easier, tf.zeros([num_rows], tf.bool)))


def _nth_highest(scores: tf.Tensor, n: int) -> tf.Tensor:
    """`[B]` n-th highest unmasked score of each row; the type's lowest where there are fewer.

    The n-th highest of the maxima of some blocks of columns is a bound that n scores reach and few
    others do, so only few are left to select from: at [1024, 2048] and n = 100 in XXX ms, where
    `tf.math.top_k` takes XXX and `NthElement` alone XXX.
    """
    lowest = tf.constant(scores.dtype.min, scores.dtype)
    num_rows, num_columns = tf.shape(scores)[0], tf.shape(scores)[1]
    length = tf.maximum(num_columns // max(2 * n, 64), 1)
    num_blocks = tf.maximum(-(-num_columns // length), n)
    scores = tf.pad(
        scores, [[0, 0], [0, num_blocks * length - num_columns]], constant_values=lowest
    )
    maxima = tf.reduce_max(tf.reshape(scores, [num_rows, length, num_blocks]), axis=1)
    bound = tf.raw_ops.NthElement(input=maxima, n=n - 1, reverse=True)
    # Without the second bound a row of masked scores, all alike, would stay whole.
    bound = tf.maximum(bound, tf.constant(float(scores.dtype.min) / 4, scores.dtype))
    at = tf.where(scores >= bound[:, tf.newaxis])
    left = tf.RaggedTensor.from_value_rowids(
        tf.gather_nd(scores, at), at[:, 0], tf.cast(num_rows, tf.int64), validate=False
    ).to_tensor(lowest)
    left = tf.pad(left, [[0, 0], [0, tf.maximum(n - tf.shape(left)[1], 0)]], constant_values=lowest)
    return tf.raw_ops.NthElement(input=left, n=n - 1, reverse=True)


def known_positive_mask(
    known_items: tf.Tensor,
    known_splits: tf.Tensor,
    user_rows: tf.Tensor,
    candidate_ids: tf.Tensor,
) -> tf.Tensor:
    """Finds candidates that are known items of the row's user (but are not the row's positive).

    The known items of user u are `known_items[known_splits[u]:known_splits[u + 1]]`, in any order.
    Time and memory depend on the batch's known items and on [B, C], not on the catalogue or on the
    number of users: what is asked of each known item is a look at a table of the candidates.

    Args:
      known_items: `[E]` int32 item ids >= 0; E below 2^31.
      known_splits: `[U + 1]` int64.
      user_rows: `[B]` int32 user of each row, in [0, U).
      candidate_ids: `[C]` int32 item ids >= 0; C >= B, row i's positive is column i.

    Returns:
      `[B, C]` bool. Never True at a row's own positive column.
    """
    users, user_of_row = tf.unique(user_rows)
    known = tf.gather(
        tf.RaggedTensor.from_row_splits(known_items, known_splits, validate=False), users
    )
    candidates = tf.sort(tf.unique(candidate_ids).y)
    slots, splits = _slots(known, candidates)
    # Rows without entries fill the last word.
    splits = tf.concat([splits, tf.fill([-tf.size(users) % _USERS_PER_WORD], splits[-1])], axis=0)
    found = tf.raw_ops.RaggedBincount(
        splits=splits,
        values=slots,
        size=tf.size(candidates),  # a slot beyond is ignored
        weights=tf.zeros([0], tf.float32),
        binary_output=True,
    )
    columns = tf.searchsorted(candidates, candidate_ids)
    mask = tf.gather(_gather_columns(found, columns), user_of_row)
    return tf.linalg.set_diag(mask, tf.zeros(tf.shape(user_rows), tf.bool))


def _slots(known: tf.RaggedTensor, candidates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Position of each known item among the sorted, unique `candidates`; their number if absent.

    The table names one candidate a bucket. An item that meets another one there (3 % of the items
    of a large catalogue, none of one with up to 65,536 items) is searched for.

    Returns:
      `[N]` slots, with their `[U + 1]` splits. Items that meet nobody in the table are left out.
    """
    absent = tf.size(candidates)
    buckets = tf.bitwise.bitwise_and(candidates, _NUM_BUCKETS - 1)
    table = tf.tensor_scatter_nd_update(
        tf.fill([_NUM_BUCKETS], absent), buckets[:, tf.newaxis], tf.range(absent)
    )
    slots = tf.gather(table, tf.bitwise.bitwise_and(known.values, _NUM_BUCKETS - 1))
    at = tf.where(slots < absent)
    slots, items = tf.gather_nd(slots, at), tf.gather_nd(known.values, at)
    splits = tf.searchsorted(at[:, 0], known.row_splits, out_type=tf.int64)
    doubtful = tf.where(tf.gather(candidates, slots) != items)
    wanted = tf.gather_nd(items, doubtful)
    position = tf.minimum(tf.searchsorted(candidates, wanted), absent - 1)
    position = tf.where(tf.gather(candidates, position) == wanted, position, absent)
    return tf.tensor_scatter_nd_update(slots, doubtful, position), splits


def _gather_columns(found: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """`[U, C]` bool from `[U, S]` floats 0 and 1: column c is column `columns[c]`.

    To gather single bools is slow (XXX ms at 1024 x 2048), so 16 users travel as bits of a word.

    Args:
      found: U a multiple of `_USERS_PER_WORD`.
      columns: `[C]`.
    """
    powers = [2**bit for bit in range(_USERS_PER_WORD)]
    by_word = tf.reshape(found, [-1, _USERS_PER_WORD, tf.shape(found)[1]])
    words = tf.matmul(tf.constant([[powers]], found.dtype), by_word)  # [U / 16, 1, S], exact
    gathered = tf.cast(tf.gather(tf.cast(words, tf.int32), columns, axis=2), tf.uint16)
    bits = tf.bitwise.bitwise_and(gathered, tf.constant(powers, tf.uint16)[:, tf.newaxis])
    return tf.reshape(bits != 0, [-1, tf.size(columns)])
