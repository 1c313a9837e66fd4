"""After the gates: the model that is served learns what validation and test held out.

The evaluated model never sees those events, and later days go on from it, not from the served one: what a final fit
learned is part of the test split of the days after.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from pipelines.config import Paths
from preprocessing.base.artifacts import fingerprint, read_manifest, write_text_atomically
from preprocessing.base.errors import LongtailFailure
from preprocessing.base.progress import Stages
from serving.config import ServingSections
from serving.export.folder import version_paths
from serving.export.run import ASSETS, DESCRIPTION, export, read_description
from serving.export.sample_requests import WARMUP_FILE

Sections = TypeVar("Sections", bound=ServingSections)
FINAL_FIT = "final_fit"
"""In longtail.json of a served version: of which evaluated one, how, and what either has learned."""


def wanted(config: ServingSections, evaluated: str) -> str:
    """What the served version is found again by.

    Args:
      config: `train` is read.
      evaluated: `export_fingerprint` of the evaluated version.
    """
    how, train = config.train.final_fit, config.train
    if how == "none":
        return evaluated
    return fingerprint(evaluated, how, train.rate_of_continuation if how == "continue" else None)


def evaluated_model(version: Path) -> str:
    """Fingerprint of the model whose figures lie beside a version: of its own, or the one that it was fitted from."""
    said = read_description(version)
    made_from = said.get(FINAL_FIT, {}).get("evaluated", said["made_from"])
    return str(made_from["model"])


def evaluated_export(version: Path) -> str | None:
    """Fingerprint of the export that was judged: of a version itself, or the one that it was fitted from."""
    said = read_description(version)
    judged: str | None = said.get(FINAL_FIT, {}).get("evaluated", {}).get("export")
    return judged or said.get("fingerprint")


def fitting(config: Sections, paths: Paths) -> tuple[Sections, Paths]:
    """Configuration and places of the final fit that belongs to a run."""
    split = config.preprocess.split.model_copy(update={"held_out": "train"})
    train = {"continue_from": str(paths.work_dir)}
    changed = config.model_copy(
        update={
            "preprocess": config.preprocess.model_copy(update={"split": split}),
            "train": config.train.model_copy(update=train),
        }
    )
    return changed, Paths(paths.final, paths.name, paths.export_dir)


def fitted(
    config: ServingSections,
    paths: Paths,
    evaluated: Path,
    console: Console,
    *,
    min_index_recall: float | None,
    beam_options: Iterable[str] = (),
) -> Path:
    """The version to serve in the place of a blessed one, with its figures and its blessing.

    Each of its steps is skipped where it is done, as those of a run are. It is not among the served versions yet.

    Args:
      config: of the run; `train.final_fit` decides.
      paths: of the run.
      evaluated: the blessed candidate.
      console: for progress.
      min_index_recall: of `gates`, which has to hold of the index that is served; None: not asked for.
      beam_options: of the second preprocessing, which win over those of the configuration.

    Raises:
      LongtailError: the log holds nothing new, or is gone.
      LongtailFailure: training or the checks of the export failed; what was served is served on.
    """
    from preprocessing.run import preprocess
    from trainer.task import train

    if config.train.final_fit == "none":
        return evaluated
    console.print(
        f"  final fit ({config.train.final_fit}): learning what validation and test held out",
        highlight=False,
    )
    changed, places = fitting(config, paths)
    preprocess(changed, places.data, beam_options=beam_options, stages=Stages(console))
    train(changed, places.data, places.model, console=console)
    version = export(changed, places.data, places.model, places.candidate, console=console)
    _check_index(version, min_index_recall)
    description = read_description(version)
    description[FINAL_FIT] = _account(config, paths, places, evaluated)
    text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    write_text_atomically(version / ASSETS / DESCRIPTION, text)
    for path in (evaluated / ASSETS).iterdir():  # figures and blessing
        if path.name not in (DESCRIPTION, WARMUP_FILE):
            shutil.copyfile(path, version / ASSETS / path.name)
    return version


def forget(paths: Paths) -> None:
    """Removes the candidates of a run that were published."""
    for folder in (paths.candidate, Paths(paths.final, paths.name).candidate):
        for version in map(Path, version_paths(folder).values()):
            if read_description(version):
                shutil.rmtree(version)
        with contextlib.suppress(OSError):
            folder.rmdir()  # nothing else lies there


def _account(
    config: ServingSections, paths: Paths, places: Paths, evaluated: Path
) -> dict[str, Any]:
    """What was evaluated and what is served, each with what it has learned."""
    said = read_description(evaluated)
    account: dict[str, Any] = {
        "fingerprint": wanted(config, said["fingerprint"]),
        "how": config.train.final_fit,
        "evaluated": {"export": said["fingerprint"], **said["made_from"], **_learned(paths)},
        "served": _learned(places),
    }
    if config.train.final_fit == "continue":
        account["learning_rate"] = config.train.rate_of_continuation
    return account


def _learned(paths: Paths) -> dict[str, Any]:
    """Of which events the model of a run knows, and which of them its last training read."""
    data, model = (read_manifest(path) or {} for path in (paths.data, paths.model))
    split = data["split"]
    return {
        "examples": data["counts"]["train_examples"],
        "interactions": data["counts"]["train_interactions"],
        "before": split.get("validation_from"),
        "until": None if "validation_from" in split else split.get("until"),
        "examples_of_last_training": model["examples"],
    }


def _check_index(version: Path, least: float | None) -> None:
    """The gate of the index, which has to hold of the vectors that are served."""
    recall = read_description(version)["index"].get("recall")
    if recall is not None and least is not None and not recall >= least:
        raise LongtailFailure(
            f"not served: expected recall of the final fit's index against exact search of at least "
            f"gates.min_index_recall={least:g}, received {recall:.3f}; raise export.scann.reorder or "
            "leaves_to_search, or set train.final_fit: none"
        )
