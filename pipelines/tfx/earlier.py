"""An earlier model of the pipeline, with the training and the data that it came from."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfx.utils import path_utils

from pipelines.rollout.final_fit import evaluated_export
from pipelines.rollout.gates import GatesConfig
from pipelines.rollout.references import BLESSING, best_blessed
from pipelines.tfx.artifacts import gather
from pipelines.tfx.log_lines import LOG
from preprocessing.base.artifacts import write_text_atomically
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.locations import mounted, reachable
from serving.config import ServingSections
from serving.export.folder import read_labels, withdrawn_versions
from serving.export.run import ASSETS
from trainer.task import training_fingerprint

_SOURCES = "longtail.json"
"""In the model's artifact: where its weights are and what they were trained on."""


@dataclass(frozen=True)
class PushTarget:
    """Where the pipeline pushes to.

    Attributes:
      directory: the folder of versions.
      label: that names the one in service.
      withdrawn: versions that were rolled back when the pipeline was made: what was decided before
        a rollback is not taken from the cache after it.
    """

    directory: str
    label: str
    withdrawn: tuple[int, ...] = ()

    @classmethod
    def now(cls, directory: str, label: str) -> PushTarget:
        """As it is at the moment."""
        return cls(directory, label, tuple(sorted(withdrawn_versions(mounted(directory)))))

    @classmethod
    def parse(cls, text: str) -> PushTarget:
        """What `as_json` wrote."""
        return cls(**json.loads(text))

    def as_json(self) -> str:
        """As a property of an execution."""
        return json.dumps(asdict(self), sort_keys=True)

    def best_blessed(self, gates: GatesConfig, k: int) -> dict[str, list[str]]:
        """URIs of the models pushed of late by group, the best on its own day first."""
        found: dict[str, list[str]] = {}
        for group, versions in best_blessed(reachable(self.directory), gates, k).items():
            records = (json.loads((path / ASSETS / BLESSING).read_text()) for path in versions)
            found[group] = [record["model"] for record in records if "model" in record]
        return found

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
        made = evaluated_export(reachable(path_utils.serving_model_path(blessed)))
        withdrawn = (folder / str(number) for number in withdrawn_versions(folder))
        if all(evaluated_export(path) != made for path in withdrawn):
            return blessed
        version = folder / str(read_labels(str(folder)).get(self.label))
        LOG.info("%s was rolled back: version %s is compared with instead", blessed, version.name)
        try:
            return str(json.loads((version / ASSETS / BLESSING).read_text())["model"])
        except (OSError, KeyError) as error:
            raise LongtailError(
                f"expected label {self.label} in {folder} at a version that this pipeline pushed, "
                f"since the model blessed last, {blessed}, was rolled back; received {version.name}; "
                "go to another one by longtail rollback --to"
            ) from error


@dataclass(frozen=True)
class Earlier:
    """A model of an earlier execution in the form of a run.

    Attributes:
      work_dir: holds ``data`` and ``model``, as `trainer.loop.continuation.Previous` opens them.
      config: sections of the configuration that the model answers by.
      settings: fingerprint of all that its training depended on beside the data.
    """

    work_dir: Path
    config: dict[str, Any]
    settings: str

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
                f"artifacts that {model} was made from are missing: {error}; restore "
                "them, or start anew: pipeline.continue_blessed=false, and without a comparison "
                "gates.max_drop_overall=null and gates.max_drop_tail=null"
            ) from error
        os.symlink(run, work_dir / "model")
        return cls(work_dir, sources["config"], sources["settings"])


def settings_of(config: ServingSections) -> str:
    """Fingerprint of all that a training depends on beside the data."""
    return training_fingerprint(config, "")


def record_sources(
    model: str, *, model_run: str, transform_graph: str, config: ServingSections
) -> None:
    """Leaves in a model's artifact what `Earlier.of` needs."""
    sources = {
        "model_run": model_run,
        "transform_graph": transform_graph,
        "config": config.model_dump(mode="json", include={"towers", "prior", "loss"}),
        "settings": settings_of(config),
    }
    write_text_atomically(reachable(model) / _SOURCES, json.dumps(sources) + "\n")
