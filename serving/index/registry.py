"""The indexes that `export.index` names: one file and one line for a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from preprocessing.base.variants import load

if TYPE_CHECKING:
    from serving.index.interface import Index


@dataclass(frozen=True)
class IndexKind:
    """What is known of an index before its code is imported.

    Attributes:
      place: its class, built from its section, or from nothing.
      says: one phrase for the documentation.
      section: of `export`, which it alone reads; None without settings.
    """

    place: str
    says: str
    section: str | None = None

    def make(self, export: Any) -> Index:
        """An empty index.

        Args:
          export: the section `export` of the configuration.

        Raises:
          LongtailError: it needs a package that is not installed.
        """
        made: Index = load(self.place)(*([getattr(export, self.section)] if self.section else []))
        return made


INDEXES = {
    "exact": IndexKind("serving.index.exact:ExactIndex", "every inner product; stock ops"),
    "scann": IndexKind(
        "serving.index.scann:ScannIndex", "partitions and quantisation (Guo et al. 2020)", "scann"
    ),
}
