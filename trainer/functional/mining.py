"""Which candidates serve as negatives: the hardest ones, and none that the user is known to want."""

from __future__ import annotations

from trainer.base.keras2 import tf
from trainer.functional import masks

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
    not_positive = tf.zeros(tf.shape(scores)[:1], tf.bool)
    if n == 0:
        easier = tf.ones_like(constant, tf.bool)
    elif scores.shape[1] is not None and n >= scores.shape[1] - 1:
        return scores
    else:
        easier = constant < _nth_highest(constant, n)[:, tf.newaxis]
    return masks.apply_mask(scores, tf.linalg.set_diag(easier, not_positive))


def _nth_highest(scores: tf.Tensor, n: int) -> tf.Tensor:
    """`[B]` n-th highest of each row's unmasked negatives; the type's lowest where there are fewer.

    The maxima of n + 1 blocks of columns are n + 1 scores, at least n of them negatives': that many
    reach the (n + 1)-th highest maximum, and few others do, so only few are left to select from.
    At [1024, 2048] and n = 100 this takes 0.3 times as long as `tf.math.top_k`.
    """
    lowest = tf.constant(scores.dtype.min, scores.dtype)
    num_rows = tf.shape(scores)[0]
    if scores.shape[1] is not None and scores.shape[1] < 8 * n:  # too many would be left
        negatives = tf.linalg.set_diag(scores, tf.fill([num_rows], lowest))
        return tf.raw_ops.NthElement(input=negatives, n=n - 1, reverse=True)
    maxima = tf.reduce_max(_in_blocks(scores, max(2 * n, 64)), axis=1)
    bound = tf.raw_ops.NthElement(input=maxima, n=n, reverse=True)
    # Without the second bound a row of masked scores, all alike, would stay whole.
    bound = tf.maximum(bound, tf.constant(float(scores.dtype.min) / 4, scores.dtype))
    reaching = scores >= bound[:, tf.newaxis]
    at = tf.where(tf.linalg.set_diag(reaching, tf.zeros([num_rows], tf.bool)))
    left = tf.RaggedTensor.from_value_rowids(
        tf.gather_nd(scores, at), at[:, 0], tf.cast(num_rows, tf.int64), validate=False
    ).to_tensor(lowest)
    missing = tf.maximum(n - tf.shape(left)[1], 0)
    left = tf.pad(left, [[0, 0], [0, missing]], constant_values=lowest)
    return tf.raw_ops.NthElement(input=left, n=n - 1, reverse=True)


def _in_blocks(scores: tf.Tensor, at_least: int) -> tf.Tensor:
    """`[B, length, blocks]` views of the columns in `at_least` blocks (or blocks of one).

    A copy of [1024, 10240] scores takes longer than all the rest, so the length of a block divides
    the number of columns where one near the longest does.
    """
    columns = scores.shape[1]
    if columns is None:
        columns = tf.shape(scores)[1]
        length = tf.maximum(columns // at_least, 1)
        missing = tf.maximum(-columns % length, at_least - columns)
    else:
        longest = max(columns // at_least, 1)
        divisors = (d for d in range(longest, longest // 2, -1) if columns % d == 0)
        length = next(divisors, longest)
        missing = -columns % length
    if not isinstance(missing, int) or missing:
        lowest = tf.constant(scores.dtype.min, scores.dtype)
        scores = tf.pad(scores, [[0, 0], [0, missing]], constant_values=lowest)
    return tf.reshape(scores, [tf.shape(scores)[0], length, -1])


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

    To gather single bools takes 4 times as long, so 16 users travel as the bits of a word.

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
