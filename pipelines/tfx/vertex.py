"""The pipeline on Vertex AI: compiled to a file, and submitted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
    KubeflowV2DagRunner,
    KubeflowV2DagRunnerConfig,
)

from pipelines.config import Paths, RunConfig
from pipelines.tfx.pipeline import beam_arguments, create_pipeline
from pipelines.vertex.cloud import Cloud, GoogleCloud
from pipelines.vertex.vertex_config import VertexConfig
from preprocessing.base.artifacts import write_text_atomically
from preprocessing.base.errors import LongtailError

SPEC = "pipeline.json"


def compile_pipeline(config: RunConfig, paths: Paths, console: Console) -> Path:
    """Writes the pipeline file, which any client of Vertex AI Pipelines can submit.

    Args:
      config: sections `pipeline` and `vertex` name image, bucket and accounts.
      paths: the file goes below ``tfx``.
      console: says where.

    Returns:
      The file.

    Raises:
      LongtailError: `pipeline.image` or `vertex` is missing, or a source does not exist.
    """
    root = _root(config)
    pipeline = create_pipeline(
        config,
        pipeline_name=_name(config),
        pipeline_root=f"{root}/tfx",
        push_directory=f"{config.rollout.export_dir or root + '/export'}/{config.name}",
        beam_pipeline_args=beam_arguments(config),
    )
    target = paths.tfx / SPEC
    target.parent.mkdir(parents=True, exist_ok=True)
    runner = KubeflowV2DagRunner(
        KubeflowV2DagRunnerConfig(default_image=config.pipeline.image),
        output_dir=str(target.parent),
        output_filename=f".{SPEC}",
    )
    spec: dict[str, Any] = runner.run(pipeline, write_out=False)
    write_text_atomically(target, json.dumps(spec, indent=2, sort_keys=True) + "\n")
    console.print(f"  written: {target}", highlight=False)
    return target


def cloud(config: RunConfig) -> Cloud:
    """Google Cloud, asked before the pipeline is compiled.

    Raises:
      LongtailError: a section, the extra, the credentials or the bucket is missing.
    """
    vertex = _settings(config)
    google = GoogleCloud(vertex)
    google.require_bucket(vertex.staging_bucket, "vertex.staging_bucket")
    if config.rollout.export_dir is not None:
        google.require_bucket(config.rollout.export_dir, "rollout.export_dir")
    return google


def submit(config: RunConfig, spec: Path, cloud: Cloud, console: Console) -> str:
    """Sends a compiled pipeline to Vertex AI.

    Args:
      config: section `vertex` says where to.
      spec: of `compile_pipeline`.
      cloud: Google's, or a test's.
      console: for the job's name.

    Returns:
      The resource name of the pipeline job.

    Raises:
      LongtailError: the bucket does not exist, or the credentials may not use it.
      LongtailFailure: Vertex AI refuses the job.
    """
    vertex = _settings(config)
    document = json.loads(spec.read_text())
    job = {
        "display_name": config.name,
        "pipeline_spec": document["pipelineSpec"],
        "runtime_config": {"gcs_output_directory": f"{_root(config)}/tfx"},
        "labels": dict(vertex.labels),
        **({"service_account": vertex.service_account} if vertex.service_account else {}),
    }
    name = cloud.create_pipeline_job(job)
    console.print(f"  submitted {name}", highlight=False)
    return name


def _root(config: RunConfig) -> str:
    return f"{_settings(config).staging_bucket.rstrip('/')}/{config.name}"


def _name(config: RunConfig) -> str:
    """Vertex AI wants lower case and no underscores."""
    return config.name.replace("_", "-").replace(".", "-").lower()


def _settings(config: RunConfig) -> VertexConfig:
    """The section, refused where anything is missing before any work is done."""
    if config.vertex is None:
        raise LongtailError(
            "the section 'vertex' is missing, with project, region and staging_bucket: add it to the "
            "configuration; docs/pipelines.md shows one"
        )
    if config.pipeline.image is None:
        raise LongtailError(
            "pipeline.image: expected a container image with Longtail and the extra tfx, received "
            "none: the components run in it (docs/pipelines.md)"
        )
    return config.vertex
