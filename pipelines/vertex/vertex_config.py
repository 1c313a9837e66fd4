"""The section ``vertex`` of the configuration: the project that pays, and the machines that train."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from preprocessing.features import Section

Label = Annotated[str, Field(pattern=r"^[a-z0-9_-]{0,63}$")]


class VertexTrainConfig(Section):
    """Machines and image of ``longtail vertex train``."""

    image: str = Field(
        "python:3.10",
        min_length=1,
        description="an image with pip and Python 3.10 to 3.13, which decides the stack; what it has "
        "installed already it need not install again",
    )
    machine_type: str = Field(
        "n2-standard-8", min_length=1, description="of each worker, by its name at Google Cloud"
    )
    replicas: PositiveInt = Field(1, description="machines: a chief, and workers beside it")
    accelerator_type: str | None = Field(
        None, pattern=r"^[A-Z0-9_]+$", description="e.g. NVIDIA_L4, default: none"
    )
    accelerator_count: PositiveInt | None = Field(None, description="of each machine")
    boot_disk_gb: int = Field(100, ge=100, le=64_000, description="disk of each worker")
    timeout_hours: PositiveFloat = Field(24.0, description="the job is ended then")
    spot: bool = Field(
        False, description="cheaper machines that may be taken away; training goes on"
    )

    @model_validator(mode="after")
    def _check(self) -> VertexTrainConfig:
        if (self.accelerator_type is None) != (self.accelerator_count is None):
            raise ValueError(
                "expected both accelerator_type and accelerator_count or neither, received "
                f"{self.accelerator_type} and {self.accelerator_count}"
            )
        if self.replicas == 1 and (self.accelerator_count or 1) > 1:
            raise ValueError(
                "accelerator_count expected 1 with replicas 1, which trains on one accelerator, "
                f"received {self.accelerator_count}: the others would be paid for and idle"
            )
        return self


class VertexConfig(Section):
    """What everything that runs on Vertex AI needs."""

    project: str = Field(pattern=r"^[a-z0-9.:-]+$", description="id of the project, not its title")
    region: str = Field(pattern=r"^[a-z]+-[a-z]+[0-9]+$", description="e.g. europe-west4")
    staging_bucket: str = Field(
        pattern=r"^gs://[a-z0-9][a-z0-9._-]+(/.*)?$", description="for packages and configurations"
    )
    service_account: str | None = Field(
        None, pattern=r"^[^@\s]+@[^@\s]+$", description="default: the project's own for custom code"
    )
    labels: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")], Label] = Field(
        default_factory=dict, description="on every job"
    )
    train: VertexTrainConfig = VertexTrainConfig()

    @property
    def parent(self) -> str:
        """Resource name of project and region."""
        return f"projects/{self.project}/locations/{self.region}"
