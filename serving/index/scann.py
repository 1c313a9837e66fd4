"""ScaNN (Guo et al., ICML 2020) through its TensorFlow ops: the index is part of the SavedModel.

A SavedModel with this index must be saved with ``namespace_whitelist=["Scann"]`` and needs a server
in which the ops are registered: Python with ``scann`` imported, or TF Serving built with ScaNN.
"""

from __future__ import annotations

import math
import uuid
from typing import Any

from numpy.typing import NDArray

from preprocessing.base.errors import LongtailError
from preprocessing.base.optional import remedy
from serving.config import ScannConfig
from serving.index.interface import PAD_SCORE, Index, checked_items, padded
from trainer.base.keras2 import tf

BRUTE_FORCE_BELOW = 20_000
"""Smaller catalogues are not partitioned: at 10,000 x 64 ScaNN's brute force took 0.13 ms a query,
as partitions did, with recall@100 of 1 against 0.8, and at 3,000 x 64 of 1 against 0.4 (2 cores;
sqrt(N) partitions, a tenth of them searched)."""
_LEAVES_SEARCHED = 100
"""Default, where a tenth of the leaves is less: recall@100 at 50,000 x 64 went from 0.73 to 0.95 and at
100,000 from 0.89 to 0.97, for the same p50 of 0.6 ms a query."""
_SPARE_LEAVES = 2.0
"""Partitions searched for a large k hold this many times k on average: they are uneven."""


class ScannIndex(Index):
    """Partitions, anisotropic quantisation, exact rescoring of the best ``config.reorder`` items.

    Raises:
      LongtailError: the optional dependency is missing; names the extra.
    """

    op_namespaces = ("Scann",)

    def __init__(self, config: ScannConfig) -> None:
        super().__init__(name="scann_index")
        self._ops = scann_ops()
        self._config = config

    def build(self, items: NDArray[Any]) -> None:
        """See ``Index.build``; a small catalogue is partitioned only where ``leaves`` are given.

        Raises:
          LongtailError: more leaves than items could fill.
        """
        checked = checked_items(items)
        self.num_items, self.dim = checked.shape
        self.leaves = self._num_leaves()
        builder = self._ops.builder(
            checked, min(self._config.reorder, self.num_items), "dot_product"
        )
        if self.leaves:
            searched = self._config.leaves_to_search or max(_LEAVES_SEARCHED, self.leaves // 10)
            self.leaves_to_search = min(searched, self.leaves)
            # Centres of k-means++ instead of random ones: the same items give the same index.
            builder = builder.tree(self.leaves, self.leaves_to_search, random_init=False)
            builder = builder.score_ah(
                self._config.dimensions_per_block,
                anisotropic_quantization_threshold=self._config.anisotropic_threshold,
            ).reorder(self._config.reorder)
        else:
            builder = builder.score_brute_force()
        # This holds the item vectors as they were given (`dataset`), and in variables whatever the
        # ops need.
        self._state = builder.build().serialize_to_module()
        # All signatures of a session share one searcher of this name: otherwise each makes its own
        # copy of the items. Unique, because in eager mode two versions of a model live in one
        # resource manager.
        self._shared_name = f"longtail-scann-{uuid.uuid4()}"

    def search(self, queries: Any, k: Any) -> tuple[Any, Any]:
        """See ``Index.search``; a larger k searches more partitions, in the end all of them."""
        take = tf.minimum(k, self.num_items)
        leaves: Any = -1
        if self.leaves:
            share = tf.cast(take, tf.float32) * (_SPARE_LEAVES * self.leaves / self.num_items)
            leaves = tf.clip_by_value(
                tf.cast(tf.math.ceil(share), tf.int32), self.leaves_to_search, self.leaves
            )
        found = self._ops.scann_search_batched(
            self._searcher(), queries, take, tf.maximum(take, self._config.reorder), leaves, True
        )
        # ScaNN gives fewer columns than asked for where no query has more, and fills short rows
        # with index 0 and NaN.
        missing = tf.math.is_nan(found.distances)
        scores = tf.where(missing, PAD_SCORE, found.distances)
        rows = tf.where(missing, tf.constant(0, tf.int64), tf.cast(found.indices, tf.int64) + 1)
        scores.set_shape([None, None])
        rows.set_shape([None, None])
        return padded(scores, rows, k)

    def vectors(self, rows: Any) -> Any:
        """See ``Index.vectors``."""
        return tf.gather(self._state.dataset, rows - 1)

    @property
    def figures(self) -> dict[str, Any]:
        """See ``Index.figures``: how many partitions."""
        return {"leaves": self.leaves}

    @property
    def remedy(self) -> str:
        """See ``Index.remedy``."""
        searched = "raise export.scann.leaves_to_search"
        more = f"{searched} (now {self.leaves_to_search} of {self.leaves}), " if self.leaves else ""
        return f"{more}raise export.scann.reorder (now {self._config.reorder})"

    def _num_leaves(self) -> int | None:
        if self._config.leaves is None:
            return None if self.num_items < BRUTE_FORCE_BELOW else math.isqrt(self.num_items)
        # 16: the codebook of a block has 16 centres and is trained on the items.
        if self.num_items < 16 or self._config.leaves > self.num_items // 2:
            raise LongtailError(
                f"export.scann.leaves expected at most half the items, {self.num_items // 2}, and "
                f"at least 16 items, received {self._config.leaves} leaves for {self.num_items} "
                "items: leave it out for the square root of the items"
            )
        return self._config.leaves

    def _searcher(self) -> Any:
        state = self._state
        return self._ops.tensors_to_scann(
            state.dataset,
            state.scann_config,
            state.serialized_partitioner,
            state.datapoint_to_token,
            state.ah_codebook,
            state.hashed_dataset,
            state.int8_dataset,
            state.int8_multipliers,
            state.dp_norms,
            shared_name=self._shared_name,
        )


def scann_ops() -> Any:
    """The module of ScaNN's TensorFlow ops; its import registers them, for a loaded model too.

    Raises:
      LongtailError: ScaNN is not installed, or its ops do not fit this TensorFlow.
    """
    try:
        from scann.scann_ops.py import scann_ops as ops
    except ImportError as error:
        raise LongtailError(
            f"this index needs ScaNN: {remedy('scann')}, or set export.index: exact"
        ) from error
    except tf.errors.OpError as error:
        raise LongtailError(
            f"ScaNN's ops do not load in TensorFlow {tf.__version__} "
            f"({error.message.splitlines()[0]}); the version that fits: {remedy('scann')}, "
            "or set export.index: exact"
        ) from error
    return ops
