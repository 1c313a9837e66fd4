"""The whole configuration file: the sections of every package in one object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from pipelines.ablation.arms import AblateConfig
from pipelines.vertex.config import VertexConfig
from preprocessing.config_io import load_config
from preprocessing.locations import reachable
from serving.config import ServingSections


class RunConfig(ServingSections):
    """Everything that a run reads."""

    ablate: AblateConfig = AblateConfig()
    vertex: VertexConfig | None = Field(None, description="Google Cloud, default: none")


@dataclass(frozen=True)
class Paths:
    """Where a run keeps its artifacts."""

    work_dir: Path
    name: str

    @property
    def data(self) -> Path:
        """Examples, item table and transform graphs."""
        return self.work_dir / "data"

    @property
    def model(self) -> Path:
        """Checkpoints, best weights, TensorBoard logs."""
        return self.work_dir / "model"

    @property
    def evaluation(self) -> Path:
        """metrics.json and report.html."""
        return self.work_dir / "evaluation"

    @property
    def ablation(self) -> Path:
        """Tables and figure of a comparison, and a record of each of its trainings."""
        return self.work_dir / "ablation"

    @property
    def export(self) -> Path:
        """The folder of versions that TF Serving watches."""
        return self.work_dir / "export" / self.name


def load(path: str | Path, overrides: Iterable[str] = ()) -> tuple[RunConfig, Paths]:
    """Read and validate a configuration file and say where its run lies."""
    config = load_config(path, RunConfig, overrides)
    return config, Paths(reachable(config.work_dir), config.name)
