"""What a training reads and how often, and the model that it begins with: new, continued, or a final fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from trainer.config.sections import TrainerSections
from trainer.data.input_fn import TrainingData
from trainer.data.new_events import NewEvents
from trainer.distributed.synchronous import SingleProcess
from trainer.loop.build import build_model
from trainer.loop.continuation import Previous, carried_over
from trainer.towers.recall_model import RecallModel


@dataclass(frozen=True)
class Passes:
    """The way of a training.

    Attributes:
      examples: what is read.
      model: as it is before the first step.
      period: steps between two evaluations.
      periods: how many of them there are at most.
      told: what the manifest says of it.
    """

    examples: TrainingData
    model: RecallModel
    period: int
    periods: int
    told: dict[str, Any]

    @classmethod
    def of(
        cls,
        config: TrainerSections,
        data_dir: Path,
        previous: Previous | None,
        distribution: SingleProcess,
        console: Console,
    ) -> Passes:
        """Decides; within the scope of the distribution.

        Args:
          config: with the learning rate of this training.
          data_dir: finished preprocessing.
          previous: the run whose model is gone on from, or which a final fit belongs to.
          distribution: of the processes.
          console: told what is continued.
        """
        if previous is not None and not is_anew(config):
            return cls._continuation(config, data_dir, previous, distribution, console)
        examples = TrainingData(data_dir, config, distribution.part, distribution.on_servers)
        model, steps, train = build_model(config, data_dir), examples.steps_per_epoch, config.train
        if previous is None:
            period = math.ceil(steps / train.evaluations_per_epoch)
            return cls(examples, model, period, math.ceil(train.max_epochs * steps / period), {})
        # Nothing is held out that could say when to stop: as many passes as were best before.
        passes = previous.passes or float(train.max_epochs)
        told = {"from_scratch_as": previous.fingerprint, "passes": passes}
        return cls(examples, model, max(1, round(passes * steps)), 1, told)

    @classmethod
    def _continuation(
        cls,
        config: TrainerSections,
        data_dir: Path,
        previous: Previous,
        distribution: SingleProcess,
        console: Console,
    ) -> Passes:
        """The new events, yesterday's model, and what became of the rows of its tables.

        Each event is read once, the newest last: what stands at the end is the model.
        """
        since = None if config.is_final_fit else previous.require_until()
        events = NewEvents(data_dir, config, since, distribution.part)
        model, rows = carried_over(config, data_dir, previous)
        model.draw_from(events.drawn)
        said = ", ".join(
            f"{owner} {r['kept']:,} + {r['new']:,}" + (f" - {r['gone']:,}" if r["gone"] else "")
            for owner, r in rows.items()
        )
        console.print(
            f"  continuing {previous.model_dir} with {events.num_examples:,} new examples; "
            f"rows kept + new: {said}",
            highlight=False,
        )
        told = {
            "continued": {"from": previous.fingerprint, "rows": rows},
            "passes": previous.passes,
        }
        return cls(events, model, events.steps_per_epoch, 1, told)


def is_anew(config: TrainerSections) -> bool:
    """Whether this is a final fit from scratch, which takes nothing of the run that it belongs to."""
    return config.is_final_fit and config.train.final_fit == "from_scratch"
