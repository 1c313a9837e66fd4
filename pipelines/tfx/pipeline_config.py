"""The section ``pipeline``: what a scheduled pipeline knows beyond its steps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from preprocessing.features import Section


class PipelineConfig(Section):
    """``longtail pipeline``."""

    serving_log: str | None = Field(
        None, description="pattern of JSON lines of requests, compared with the training examples"
    )
    drift_threshold: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.3, description="Jensen-Shannon divergence of a feature above which the pipeline stops"
    )
    schema_file: str | None = Field(
        None,
        description="curated schema.pbtxt that the examples are held against; default: inferred "
        "from this run's examples, which finds nothing wrong with themselves",
    )
    cache: bool = Field(
        True,
        description="whether a component with equal inputs is taken from an earlier run; false in a "
        "compiled file that a schedule starts again and again: it holds the files as they were",
    )
    continue_blessed: bool = Field(
        False,
        description="train on from the model that was blessed last, with the events since its "
        "validation split, instead of from scratch",
    )
    image: str | None = Field(
        None,
        description="container with Longtail for Vertex AI Pipelines, e.g. REGION-docker.pkg.dev/...",
    )
