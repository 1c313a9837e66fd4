"""What TFX's Trainer calls: `run_fn` trains and exports."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import preprocessing.base.quiet  # noqa: F401  before anything that imports TensorFlow
from pipelines.tfx.artifacts import gather
from pipelines.tfx.earlier import Earlier, PushTarget, record_sources, settings_of
from pipelines.tfx.log_lines import LOG
from pipelines.tfx.sections import parse, sections_of
from preprocessing.base.artifacts import read_manifest
from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import reachable
from serving.config import ServingSections
from serving.export.run import export
from trainer.loop.continuation import Previous
from trainer.loop.run_state import claimed_by, steps_done
from trainer.task import train, training_fingerprint

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

RUN_FN = "pipelines.tfx.training.run_fn"


def run_fn(fn_args: FnArgs) -> None:
    """Trains on the artifacts and writes a SavedModel with index and warm-up requests.

    With a base model, the one that was blessed last and not rolled back since, training goes on
    from it with the events that are new since; where there are none it is taken as it is. Training
    that a killed execution began is gone on with where its checkpoints stand.

    Args:
      fn_args: of TFX; `transform_graph_path`, `model_run_dir`, `serving_model_dir`, `base_model`
        and `custom_config` are read.

    Raises:
      LongtailError: data and configuration do not fit.
      LongtailFailure: training or the checks of the export failed.
    """
    config = parse(ServingSections, fn_args.custom_config["config"])
    with tempfile.TemporaryDirectory() as scratch:
        data_dir = gather(fn_args.transform_graph_path, Path(scratch) / "data")
        model_dir = reachable(fn_args.model_run_dir)
        base = None
        if fn_args.base_model:
            served = PushTarget.parse(fn_args.custom_config["served"])
            base = served.standing(os.path.dirname(fn_args.base_model))
        earlier = Earlier.of(base, Path(scratch) / "earlier") if base else None
        if earlier and _fingerprint(earlier.work_dir / "data") == _fingerprint(data_dir):
            if earlier.settings != settings_of(config):
                raise LongtailError(
                    f"pipeline.continue_blessed: expected new events, or settings as those of {base}, "
                    "received the same data and other settings of training; train from scratch "
                    "with --set pipeline.continue_blessed=false"
                )
            LOG.info("no new events since %s was trained: it is taken as it is", base)
            _copy(earlier.work_dir / "model", model_dir)
        else:
            _train(config, data_dir, model_dir, earlier.work_dir if earlier else None)
        version = export(config, data_dir, model_dir, Path(scratch) / "export")
        target = reachable(fn_args.serving_model_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(os.fspath(version), target)
    record_sources(
        os.path.dirname(fn_args.serving_model_dir),
        model_run=fn_args.model_run_dir,
        transform_graph=fn_args.transform_graph_path,
        config=config,
    )


def _train(config: ServingSections, data_dir: Path, model_dir: Path, earlier: Path | None) -> None:
    """From scratch or from an earlier run; first takes what an execution like this one left."""
    previous = None
    if earlier:
        section = config.train.model_copy(update={"continue_from": str(earlier)})
        config = config.model_copy(update={"train": section})
        previous = Previous.open(earlier).fingerprint
    wanted = training_fingerprint(config, _fingerprint(data_dir), previous)
    model_dir.parent.mkdir(parents=True, exist_ok=True)
    begun = [path for path in model_dir.parent.iterdir() if path != model_dir]
    begun = [path for path in begun if claimed_by(path) == wanted]
    if begun:
        furthest = max(begun, key=steps_done)
        LOG.info("taking over the training in %s", furthest)
        _copy(furthest, model_dir)
    train(config, data_dir, model_dir)


def _copy(run: Path, model_dir: Path) -> None:
    """Files of a training; of the large ones, which are never written in place, links if possible."""

    def link(source: str, target: str) -> None:
        if ".data-" in Path(source).name:  # TensorFlow writes an index in place
            with contextlib.suppress(OSError):
                os.link(source, target)
                return
        shutil.copy2(source, target)

    shutil.copytree(run, model_dir, copy_function=link, dirs_exist_ok=True)


def _fingerprint(data_dir: Path) -> str:
    return str((read_manifest(data_dir) or {})["fingerprint"])


def custom_config(config: ServingSections, served: PushTarget | None) -> dict[str, str]:
    """What `run_fn` wants to be told by the Trainer; `served` where there may be a base model."""
    told = {"config": sections_of(config, ServingSections)}
    return told if served is None else {**told, "served": served.as_json()}
