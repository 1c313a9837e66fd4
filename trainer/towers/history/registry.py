"""The encoders that `towers.history.encoder` names: one file and one line for a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from preprocessing.base.variants import load

if TYPE_CHECKING:
    from trainer.towers.history.interface import HistoryEncoder
    from trainer.towers.history.sequence import SequenceColumn


@dataclass(frozen=True)
class Encoder:
    """What is known of an encoder before its code is imported.

    Attributes:
      place: its class, see `interface.HistoryEncoder`.
      says: one phrase for the documentation.
      options: fields of the section `towers.history` that it alone reads; `HistoryConfig` in
        `trainer/config/history.py` has to hold them.
    """

    place: str
    says: str
    options: tuple[str, ...] = ()

    def build(self, columns: Sequence[SequenceColumn], settings: Any, seed: int) -> HistoryEncoder:
        """The encoder of a query tower.

        Args:
          columns: the sequence features, at least one.
          settings: the section `towers.history`.
          seed: of its initial weights.
        """
        encoder: HistoryEncoder = load(self.place)(columns, settings, seed)
        return encoder


_HERE = "trainer.towers.history"
ENCODERS = {
    "mean": Encoder(
        f"{_HERE}.mean:HistoryMean", "mean of each feature, by learned weights of recency"
    ),
    "attention": Encoder(
        f"{_HERE}.attention:HistoryAttention",
        "learned queries that choose among the items, all features of an item together",
        options=("heads",),
    ),
}
