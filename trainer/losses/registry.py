"""The losses that `loss.kind` names: one file and one line for a new one.

What a loss needs and refuses stands here, without TensorFlow: the configuration's checks, the task and the table of
docs/negatives.md derive from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from preprocessing.base.variants import load


@dataclass(frozen=True)
class Loss:
    """What is known of a loss before its code is imported.

    Attributes:
      place: its function. Of a loss by row `(Scored, LossConfig, hardest) -> scalar`, see `scored.Scored`; of any
        other `(Pairs, LossConfig) -> scalar`, see `gramian.Pairs`.
      says: one phrase for the documentation.
      source: the paper.
      log_q: the corrections it knows.
      options: fields of the section `loss` that it alone reads, each of one loss; `LossConfig` in
        `trainer/config/loss.py` has to hold them.
      by_row: each row has negatives of its own; else all pairs count at once.
      hardest: the corrections with which `negatives.hardest` goes.
      positive_apart: the corrections with which a row's positive stands beside what was drawn, instead of being one
        of the draws.
      learns_log_z: the corrections with which it learns its normaliser.
      needs_groups: it needs the user of each row.
    """

    place: str
    says: str
    source: str
    log_q: tuple[str, ...] = ("none", "standard")
    options: tuple[str, ...] = ()
    by_row: bool = True
    hardest: tuple[str, ...] = ("none", "standard")
    positive_apart: tuple[str, ...] = ()
    learns_log_z: tuple[str, ...] = ()
    needs_groups: bool = False

    @property
    def function(self) -> Callable[..., Any]:
        """The loss itself."""
        function: Callable[..., Any] = load(self.place)
        return function


LOSSES = {
    "softmax": Loss(
        "trainer.losses.softmax:softmax",
        "sampled softmax",
        "Yi et al. 2019; its corrected form arXiv 2507.09331",
        log_q=("none", "standard", "corrected"),
        positive_apart=("corrected",),
    ),
    "gramian": Loss(
        "trainer.losses.gramian:gramian",
        "all pairs by Gramians",
        "Krichene et al. 2019",
        options=("gramian_weight",),
        by_row=False,
        hardest=(),
    ),
    "bsl": Loss(
        "trainer.losses.bilateral:bilateral",
        "bilateral softmax",
        "Wu et al. 2024",
        options=("bsl_ratio",),
        needs_groups=True,
    ),
    "bce": Loss(
        "trainer.losses.logistic:logistic",
        "binary cross-entropy; with logQ noise-contrastive estimation",
        "Gutmann and Hyvärinen 2010",
        options=("bce_weight",),
        hardest=("none",),
        positive_apart=("standard",),
        learns_log_z=("standard",),
    ),
}
"""In the order of every table."""
