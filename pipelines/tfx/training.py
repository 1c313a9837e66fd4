"""What TFX's Trainer calls: `run_fn` trains and exports."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tfx.utils import io_utils

import preprocessing.quiet  # noqa: F401  before anything that imports TensorFlow
from pipelines.tfx.artifacts import gather
from pipelines.tfx.sections import parse
from preprocessing.locations import reachable
from serving.config import ServingSections
from serving.export import export
from trainer.task import train

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

RUN_FN = "pipelines.tfx.training.run_fn"
SOURCES = "longtail.json"
"""In the model's artifact: where its weights are and what they were trained on."""


def run_fn(fn_args: FnArgs) -> None:
    """Trains on the artifacts and writes a SavedModel with index and warm-up requests.

    Training goes on where a killed execution stood if TFX gives it the same directory again.

    Args:
      fn_args: of TFX; `transform_graph_path`, `model_run_dir`, `serving_model_dir` and
        `custom_config` are read.

    Raises:
      LongtailError: data and configuration do not fit.
      LongtailFailure: training or the checks of the export failed.
    """
    config = parse(ServingSections, fn_args.custom_config["config"])
    with tempfile.TemporaryDirectory() as scratch:
        data_dir = gather(fn_args.transform_graph_path, Path(scratch) / "data")
        model_dir = reachable(fn_args.model_run_dir)
        train(config, data_dir, model_dir)
        version = export(config, data_dir, model_dir, Path(scratch) / "export")
        target = reachable(fn_args.serving_model_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(os.fspath(version), target)
    sources = {
        "model_run": fn_args.model_run_dir,
        "transform_graph": fn_args.transform_graph_path,
        "config": config.model_dump(mode="json", include={"towers", "prior", "loss"}),
    }
    io_utils.write_string_file(f"{target.parent}/{SOURCES}", json.dumps(sources))


def custom_config(config: ServingSections) -> dict[str, str]:
    """What `run_fn` wants to be told by the Trainer."""
    from pipelines.tfx.sections import sections_of

    return {"config": sections_of(config, ServingSections)}
