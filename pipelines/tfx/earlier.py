"""An earlier model of the pipeline, with the training and the data that it came from."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfx.utils import path_utils

from pipelines.rollout import BLESSING
from pipelines.tfx.artifacts import gather
from pipelines.tfx.progress import LOG
from preprocessing.artifacts import write_text_atomically
from preprocessing.errors import LongtailError, LongtailFailure
from preprocessing.locations import reachable
from serving.config import ServingSections
from serving.export import ASSETS, read_description
from serving.export_dir import read_labels, withdrawn_versions

_SOURCES = "longtail.json"
"""In the model's artifact: where its weights are and what they were trained on."""


@dataclass(frozen=True)
class Served:
    """Where the pipeline pushes to.

    Attributes:
      directory: the folder of versions.
      label: that names the one in service.
    """

    directory: str
    label: str

    @classmethod
    def parse(cls, text: str) -> Served:
        """What `as_json` wrote."""
        return cls(**json.loads(text))

    def as_json(self) -> str:
        """As a property of an execution."""
        return json.dumps(asdict(self), sort_keys=True)

    def standing(self, blessed: str) -> str:
        """The model to compare with and to go on from, which a rollback changes.

        Args:
          blessed: URI of the model that was blessed last.

        Returns:
          `blessed`, or where that was rolled back the model of the version that the label names.

        Raises:
          LongtailError: no pipeline pushed that version.
        """
        folder = reachable(self.directory)
        made = read_description(reachable(path_utils.serving_model_path(blessed)))["fingerprint"]
        withdrawn = (folder / str(number) for number in withdrawn_versions(folder))
        if all(read_description(path).get("fingerprint") != made for path in withdrawn):
            return blessed
        version = folder / str(read_labels(str(folder))[self.label])
        LOG.info("%s was rolled back: version %s is compared with instead", blessed, version.name)
        record = json.loads((version / ASSETS / BLESSING).read_text())
        if "model" not in record:
            raise LongtailError(
                f"expected version {version} to be one that this pipeline pushed, since the model "
                f"blessed last, {blessed}, was rolled back; received one of longtail run: take "
                "another back by longtail rollback --to"
            )
        return str(record["model"])


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
