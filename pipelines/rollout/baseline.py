"""The blessed model on a candidate's data: two figures from different days compare the days."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.rollout.gates import Evidence
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.progress import Stages
from preprocessing.finished import finished_data
from trainer.config.sections import TrainerSections
from trainer.evaluate import collect
from trainer.loop.continuation import Previous, as_it_was, carried_over


def measured_again(
    config: TrainerSections,
    data_dir: Path,
    previous: Previous,
    made_by: Mapping[str, Any],
    stages: Stages,
) -> Evidence:
    """What an evaluation of an earlier model gives on today's data, its rows found by key.

    Args:
      config: today's.
      data_dir: today's preprocessing.
      previous: the run of the model.
      made_by: the configuration that it answers by (`as_it_was`).
      stages: for progress.
    """
    alone = config.evaluate.model_copy(update={"baselines": []})
    before = as_it_was(config.model_copy(update={"evaluate": alone}), made_by)
    with stages.stage(f"carrying {previous.fingerprint} over to this data"):
        model, _ = carried_over(before, data_dir, previous)
    metrics, by_query = collect(before, data_dir, model, stages)
    # Alike in data by construction: what it was measured on is what the candidate was.
    return Evidence(
        {**metrics, "made": {"data_fingerprint": finished_data(data_dir, config)["fingerprint"]}},
        by_query,
    )


@contextlib.contextmanager
def comparing(with_what: str) -> Iterator[None]:
    """Around a comparison: says how to do without it where the blessed model cannot be measured.

    Raises:
      LongtailError: it cannot.
    """
    try:
        yield
    except (OSError, KeyError, LongtailError, LongtailFailure) as error:
        raise LongtailError(
            f"gates: {with_what} cannot be measured on this data: {error}; restore "
            "what it was made from, or leave the comparison out, once after a change of features "
            "or towers, with --set gates.max_drop_overall=null --set gates.max_drop_tail=null"
        ) from error
