"""``longtail vertex train``: checks, uploads package and configuration, starts the job."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from pipelines.config import RunConfig
from pipelines.vertex.cloud import Cloud, GoogleCloud
from pipelines.vertex.job import training_job
from pipelines.vertex.package import build_sdist, source_tree
from pipelines.vertex.vertex_config import VertexConfig
from preprocessing.base.artifacts import MANIFEST
from preprocessing.base.config_io import load_config
from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import SCHEME
from preprocessing.finished import require_settings
from trainer.distributed.cluster import require_divisible


def section(config: RunConfig) -> VertexConfig:
    """The section ``vertex``.

    Raises:
      LongtailError: it is missing, or the run keeps its artifacts where no job can reach them.
    """
    if config.vertex is None:
        raise LongtailError(
            "the section 'vertex' is missing, with project, region and staging_bucket: add it to the "
            "configuration; docs/scale.md shows one"
        )
    if not config.work_dir.startswith(SCHEME):
        raise LongtailError(
            f"work_dir: expected gs://BUCKET/..., which jobs can reach, received '{config.work_dir}': "
            "--set work_dir=gs://BUCKET/... after copying data/ there"
        )
    return config.vertex


def train(
    config_file: Path,
    overrides: Sequence[str],
    console: Console,
    *,
    package: str | None = None,
    dry_run: bool = False,
    connect: Callable[[VertexConfig], Cloud] = GoogleCloud,
) -> str | None:
    """Start a training job for preprocessed data in a bucket.

    Args:
      config_file: YAML file of the run; its ``work_dir`` is in a bucket.
      overrides: passed on to the job.
      console: for the name of the job.
      package: sdist or wheel, here or at ``gs://``; default: built from the source tree.
      dry_run: print the request as YAML and do nothing.
      connect: makes the cloud.

    Returns:
      The resource name of the job, None of a dry run.

    Raises:
      LongtailError: what is missing or does not fit, before anything is uploaded: section, package, extra,
        credentials, a bucket, the data, or a batch that the machines cannot share.
      LongtailFailure: Vertex AI refused the job.
    """
    config = load_config(config_file, RunConfig, overrides)
    vertex = section(config)
    machines = vertex.train.replicas * (vertex.train.accelerator_count or 1)
    if vertex.train.replicas > 1:
        require_divisible(config, machines, "replicas (vertex.train)")
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    staging = f"{vertex.staging_bucket.rstrip('/')}/longtail/{config.name}-{stamp}"
    if package is None:
        source_tree()
    elif not package.startswith(SCHEME) and not Path(package).is_file():
        raise LongtailError(f"--package expected an sdist or wheel, found no file {package}")
    if dry_run:
        name = Path(package).name if package else "longtail.tar.gz"
        remote = package if package and package.startswith(SCHEME) else f"{staging}/{name}"
        job = training_job(config.name, vertex, remote, f"{staging}/{config_file.name}", overrides)
        console.print(_as_yaml(vertex, job), markup=False, highlight=False, soft_wrap=True)
        return None
    cloud = connect(vertex)
    cloud.require_bucket(vertex.staging_bucket, "vertex.staging_bucket")
    cloud.require_bucket(config.work_dir, "work_dir")
    data = f"{config.work_dir.rstrip('/')}/data"
    manifest = cloud.read(f"{data}/{MANIFEST}")
    if manifest is None:
        raise LongtailError(
            f"{data}/{MANIFEST} is missing, there is no finished data: run 'longtail preprocess' with this "
            "work_dir, or copy a finished data/ there"
        )
    require_settings(json.loads(manifest), config, data)
    if package is None or not package.startswith(SCHEME):
        package = _uploaded(cloud, package, staging)
    remote_config = f"{staging}/{config_file.name}"
    cloud.upload(config_file, remote_config)
    job = training_job(config.name, vertex, package, remote_config, overrides)
    made = cloud.create_custom_job(job)
    number = made.rpartition("/")[2]
    console.print(
        f"started {made}\n  https://console.cloud.google.com/vertex-ai/locations/{vertex.region}/training/"
        f"{number}?project={vertex.project}",
        highlight=False,
        soft_wrap=True,
    )
    return made


def _uploaded(cloud: Cloud, package: str | None, staging: str) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(package) if package else build_sdist(Path(scratch))
        cloud.upload(path, f"{staging}/{path.name}")
        return f"{staging}/{path.name}"


def _as_yaml(vertex: VertexConfig, job: dict[str, Any]) -> str:
    class Plain(yaml.SafeDumper):
        """Writes what two pools share twice, without anchors."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    request = {"parent": vertex.parent, "custom_job": job}
    return yaml.dump(request, Dumper=Plain, sort_keys=False, width=1000).rstrip()
