"""The pipeline on this machine: TFX's LocalDagRunner, metadata in SQLite."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path

from ml_metadata.metadata_store import MetadataStore
from rich.console import Console
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config

from pipelines import datasets
from pipelines.config import Paths, RunConfig
from pipelines.tfx.log_lines import shown
from pipelines.tfx.pipeline import beam_arguments, create_pipeline
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.sole_writer import sole_writer
from preprocessing.beam.overhead import signatures_read_once
from serving.export.folder import read_labels
from serving.export.labels import require_ours
from serving.export.run import newest_version

METADATA, LOG = "metadata.sqlite", "pipeline.log"


def run(config: RunConfig, paths: Paths, console: Console) -> Path | None:
    """Runs every component that is not cached; a killed run is gone on with by calling again.

    Args:
      config: the whole configuration.
      paths: artifacts go below ``tfx``, a blessed model to the export directory.
      console: for progress and outcome; TFX's own log goes to ``tfx/pipeline.log``.

    Returns:
      The version that was pushed, None where the model was refused.

    Raises:
      LongtailError: a source does not exist, another run is at work there, or beside the pushed versions lies a file
        that is not ours.
      LongtailFailure: a component failed; what was finished is kept.
    """
    datasets.fetch(config.data)
    # TFX makes URIs of paths, and runs components in other directories.
    root, push = paths.tfx.resolve(), paths.export.resolve()
    root.mkdir(parents=True, exist_ok=True)
    push.mkdir(parents=True, exist_ok=True)
    _require_readable(root / METADATA)
    require_ours(push)
    before, labelled = newest_version(push), read_labels(str(push))
    pipeline = create_pipeline(
        config,
        pipeline_name=config.name,
        pipeline_root=str(root),
        push_directory=str(push),
        metadata_path=str(root / METADATA),
        beam_pipeline_args=beam_arguments(config),
    )
    started, log = time.perf_counter(), root / LOG
    try:
        with sole_writer(root), shown(console, log), signatures_read_once():
            LocalDagRunner().run(pipeline)
    except LongtailError as error:
        raise type(error)(
            f"{error}; finished components are kept; the whole log is {log}"
        ) from error
    except Exception as error:
        raise LongtailFailure(
            f"the pipeline stopped: {' '.join(str(error).split())[:500]}; finished components are "
            f"kept, run the command again to go on; the whole log is {log}"
        ) from error
    pushed = newest_version(push)
    new = pushed if pushed and pushed != before else None
    outcome = f"pushed {new}" if new else f"nothing was pushed, {push} is as it was"
    if not new and read_labels(str(push)) != labelled:  # the run before was killed on its way here
        outcome = f"the label is now at {read_labels(str(push))} in {push}"
    console.print(
        f"  {outcome}, {time.perf_counter() - started:.0f} s", highlight=False, soft_wrap=True
    )
    return new


def _require_readable(path: Path) -> None:
    """Refuses metadata that another version of ML Metadata wrote, before any work."""
    try:
        MetadataStore(sqlite_metadata_connection_config(str(path)))
    except Exception as error:
        raise LongtailError(
            f"{path}: expected metadata of ml-metadata {version('ml-metadata')}, received "
            f"{' '.join(str(error).split())[:200]}; install the version that wrote it, or move the file "
            "away: every component then runs anew"
        ) from error
