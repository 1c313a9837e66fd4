"""The whole configuration file: the sections of every package in one object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipelines.ablation.arms import AblateConfig
from pipelines.rollout.gates import GatesConfig
from pipelines.tfx.pipeline_config import PipelineConfig
from pipelines.vertex.vertex_config import VertexConfig
from preprocessing.base.artifacts import MANIFEST
from preprocessing.base.config_io import load_config
from preprocessing.base.locations import mounted, reachable
from preprocessing.features import Section
from serving.config import ServingSections


class RolloutConfig(Section):
    """Where blessed versions go."""

    export_dir: str | None = Field(
        None,
        description="folder of models that servers watch, one for all days; default: WORK_DIR/export",
    )
    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = Field(
        "stable", description="the label that names the blessed version"
    )


class RunConfig(ServingSections):
    """Everything that a run reads."""

    ablate: AblateConfig = AblateConfig()
    gates: GatesConfig = GatesConfig()
    rollout: RolloutConfig = RolloutConfig()
    pipeline: PipelineConfig = PipelineConfig()
    vertex: VertexConfig | None = Field(None, description="Google Cloud, default: none")


@dataclass(frozen=True)
class Paths:
    """Where a run keeps its artifacts."""

    work_dir: Path
    name: str
    export_dir: Path | None = None

    @property
    def data(self) -> Path:
        """Examples, item table and transform graphs."""
        return self.work_dir / "data"

    @property
    def model(self) -> Path:
        """Checkpoints, best weights, TensorBoard logs."""
        return self.work_dir / "model"

    @property
    def statistics(self) -> Path:
        """Statistics and schema of the examples, and their anomalies."""
        return self.work_dir / "statistics"

    @property
    def final(self) -> Path:
        """Data, model and candidate of the final fit, in the form of a run."""
        return self.work_dir / "final"

    @property
    def asked(self) -> Path:
        """The data with sample queries as of what is served: those of the final fit, where there was one."""
        fitted = self.final / "data"
        return fitted if (fitted / MANIFEST).is_file() else self.data

    @property
    def evaluation(self) -> Path:
        """metrics.json and report.html."""
        return self.work_dir / "evaluation"

    @property
    def ablation(self) -> Path:
        """Tables and figure of a comparison, and a record of each of its trainings."""
        return self.work_dir / "ablation"

    @property
    def tfx(self) -> Path:
        """Artifacts and metadata of pipeline runs."""
        return self.work_dir / "tfx"

    @property
    def export(self) -> Path:
        """The folder of versions that TF Serving watches."""
        return (self.export_dir or self.work_dir / "export") / self.name

    @property
    def candidate(self) -> Path:
        """An export that no gate has let through yet; in the form of a folder of versions."""
        return self.work_dir / "candidate" / self.name


def load(
    path: str | Path, overrides: Iterable[str] = (), *, serves_here: bool = True
) -> tuple[RunConfig, Paths]:
    """Read and validate a configuration file and say where its run lies.

    Args:
      path: YAML file.
      overrides: ``section.key=value`` pairs.
      serves_here: whether this machine writes versions: their bucket has to be mounted then.

    Raises:
      LongtailError: the file is not valid, or a bucket is not mounted.
    """
    config = load_config(path, RunConfig, overrides)
    shared = config.rollout.export_dir
    export = (reachable if serves_here else mounted)(shared) if shared else None
    return config, Paths(reachable(config.work_dir), config.name, export)
