"""Makes the sources of negatives: of a whole configuration, or of a task's own arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preprocessing.base.errors import LongtailError
from trainer.config.loss import FrequencyConfig, LossConfig, MemoryConfig
from trainer.negatives.frequency import FrequencyEstimator
from trainer.negatives.memory_bank import MemoryBank
from trainer.negatives.sources import NegativeSources

if TYPE_CHECKING:
    from trainer.config.sections import TrainerSections
    from trainer.data.item_table import ItemTable
    from trainer.negatives.momentum import MomentumTower


def configured(
    config: TrainerSections, item_table: ItemTable, dim: int, momentum_tower: MomentumTower | None
) -> NegativeSources:
    """The sources of a recall model.

    Args:
      config: `negatives`, `loss` and `train.batch_size` are read.
      item_table: with the exact counts.
      dim: D of the item embeddings, popularity coordinate included.
      momentum_tower: embeds what the bank keeps.
    """
    negatives, memory = config.negatives, config.negatives.memory
    streamed = config.loss.probabilities == "streamed"
    return NegativeSources(
        item_table.num_items,
        counts=item_table.counts_examples,
        frequency=_frequency(config.loss.frequency) if streamed else None,
        batch_size=config.train.batch_size,
        in_batch=negatives.in_batch,
        positive_is_no_draw=config.loss.positive_is_no_draw,
        uniform=negatives.uniform,
        bank=bank_of(memory, dim) if memory else None,
        balanced=memory.balanced if memory else True,
        momentum_tower=momentum_tower,
        gather=item_table.gather,
    )


def for_task(
    loss: LossConfig,
    *,
    item_counts: ArrayLike | None,
    num_items: int | None,
    batch_size: int | None,
    uniform: int,
    memory: MemoryConfig | None,
) -> NegativeSources | None:
    """The sources of a task in a model of one's own, still without the bank, whose D is not known.

    Args and errors: as `RetrievalTask`.

    Returns:
      None where nothing was asked for: the caller then brings candidates and log Q himself.
    """
    if item_counts is None and batch_size is None and not uniform and memory is None:
        return None
    streamed = loss.probabilities == "streamed"
    counts = None if item_counts is None else _checked_counts(item_counts, num_items)
    if counts is not None:
        num_items = len(counts) - 1
    if counts is not None and (streamed or loss.log_q == "none"):
        reason = "the stream is counted" if streamed else "nothing is corrected"
        raise LongtailError(
            f"item_counts: expected None with probabilities '{loss.probabilities}' and log_q "
            f"'{loss.log_q}', where {reason}, received counts; give num_items instead"
        )
    if loss.log_q != "none" and counts is None and not streamed:
        raise LongtailError(
            f"item_counts is missing: log_q '{loss.log_q}' needs how often each item is drawn; give "
            "it, or count in the stream: probabilities='streamed', batch_size=..."
        )
    if num_items is None and uniform:
        raise LongtailError(
            "num_items is missing: uniform negatives are drawn from a catalogue of this size; give "
            "it, or item_counts"
        )
    if (streamed or memory) and batch_size is None:
        reader = "probabilities 'streamed'" if streamed else "memory"
        raise LongtailError(f"batch_size: expected the examples of a batch, {reader} needs it")
    if memory:
        _check_memory(memory, batch_size or 0)
    return NegativeSources(
        num_items or 1,
        counts=counts,
        frequency=_frequency(loss.frequency) if streamed else None,
        batch_size=batch_size,
        positive_is_no_draw=loss.positive_is_no_draw,
        uniform=uniform,
        balanced=memory.balanced if memory else True,
    )


def memory_of(memory: MemoryConfig | Mapping[str, Any] | None) -> MemoryConfig | None:
    """The section `negatives.memory`, from a mapping too."""
    if memory is None or isinstance(memory, MemoryConfig):
        return memory
    return MemoryConfig.model_validate(dict(memory))


def bank_of(memory: MemoryConfig, dim: int) -> MemoryBank:
    """An empty bank of `[size, dim]`."""
    return MemoryBank(memory.size, dim, memory.warm_up_steps, memory.drawn)


def _frequency(stream: FrequencyConfig) -> FrequencyEstimator:
    return FrequencyEstimator(
        buckets=stream.buckets,
        hashes=stream.hashes,
        learning_rate=stream.learning_rate,
        initial_interval=stream.initial_interval,
    )


def _checked_counts(item_counts: ArrayLike, num_items: int | None) -> NDArray[np.float64]:
    counts = np.asarray(item_counts, np.float64)
    if counts.ndim != 1 or len(counts) < 2 or not np.isfinite(counts).all() or counts.min() < 0:
        raise LongtailError(
            "item_counts: expected [N + 1] finite numbers >= 0 by item id, place 0 for padding or "
            f"unknown items, received shape {counts.shape}, lowest {counts.min(initial=0):g}"
        )
    if not counts.sum() > 0:
        raise LongtailError("item_counts: expected an item that is drawn, received zeros alone")
    if num_items not in (None, len(counts) - 1):
        raise LongtailError(
            f"num_items: expected {len(counts) - 1}, as item_counts say, received {num_items}; "
            "leave it out"
        )
    return counts


def _check_memory(memory: MemoryConfig, batch_size: int) -> None:
    if memory.momentum is not None:
        raise LongtailError(
            "memory.momentum: expected None, as the task does not know the item tower, received "
            f"{memory.momentum}; leave it out"
        )
    if memory.size > memory.warm_up_steps * batch_size:
        raise LongtailError(
            f"memory.size: expected at most warm_up_steps x batch_size = "
            f"{memory.warm_up_steps * batch_size}, received {memory.size}: the bank would not be "
            "full when it is first used"
        )
