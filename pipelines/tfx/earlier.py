"""An earlier model of the pipeline, with the training and the data that it came from."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.tfx.artifacts import gather
from preprocessing.artifacts import write_text_atomically
from preprocessing.errors import LongtailError, LongtailFailure
from preprocessing.locations import reachable
from serving.config import ServingSections

_SOURCES = "longtail.json"
"""In the model's artifact: where its weights are and what they were trained on."""


@dataclass(frozen=True)
class Earlier:
    """A model of an earlier execution in the form of a run.

    Attributes:
      work_dir: holds ``data`` and ``model``, as `trainer.continuation.Previous` opens them.
      config: sections of the configuration that the model answers by.
    """

    work_dir: Path
    config: dict[str, Any]

    @classmethod
    def of(cls, model: str, work_dir: Path) -> Earlier:
        """Lays the artifacts behind a model out by links.

        Args:
          model: URI of the Trainer's `model`.
          work_dir: does not exist yet.

        Raises:
          LongtailError: an artifact was removed since.
        """
        try:
            sources = json.loads((reachable(model) / _SOURCES).read_text())
            run = reachable(sources["model_run"])
            os.stat(run)
            gather(sources["transform_graph"], work_dir / "data")
        except (OSError, LongtailFailure) as error:
            raise LongtailError(
                f"expected the artifacts of the last blessed model, {model}, received none: {error}; "
                "restore them, or do without that model: gates.max_drop_overall=null, "
                "gates.max_drop_tail=null and pipeline.continue_blessed=false"
            ) from error
        os.symlink(run, work_dir / "model")
        return cls(work_dir, sources["config"])


def record_sources(
    model: str, *, model_run: str, transform_graph: str, config: ServingSections
) -> None:
    """Leaves in a model's artifact what `Earlier.of` needs."""
    sources = {
        "model_run": model_run,
        "transform_graph": transform_graph,
        "config": config.model_dump(mode="json", include={"towers", "prior", "loss"}),
    }
    write_text_atomically(reachable(model) / _SOURCES, json.dumps(sources) + "\n")
