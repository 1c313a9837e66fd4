"""Manifests of finished steps, for the steps after them: whether they are there and of this configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from preprocessing.base.artifacts import MANIFEST, fingerprint, read_manifest
from preprocessing.base.errors import LongtailError
from preprocessing.config import DataSections
from preprocessing.features import Kind

FORMAT = 5
"""Rises with every change to what the same configuration writes to ``data/``, changes of a default among them."""
_HARMLESS = {
    # Where rows come from, which later steps do not read, and how they are cut into work.
    "data": {"dataset", "interactions", "items", "users", "reward_weights", "any_time_range"},
    "preprocess": {
        "max_rejected_fraction",
        "rows_per_partition",
        "batch_rows",
        "runner",
        "beam_options",
    },
}
_HISTORIES, _WEIGHTS = "histories", "rewards as weights"


def settings(config: DataSections) -> dict[str, Any]:
    """What later steps take for granted of ``data/``: format, a fingerprint a section, the length of histories."""
    sections = config.model_dump(
        mode="json", include={"data", "preprocess"}, exclude=_HARMLESS, exclude_defaults=True
    )
    features = config.feature_list
    # Widths and masks are the trainer's, and sequences are cut from the histories by it.
    columns = [
        each.model_dump(mode="json", exclude={"dim", "maskable"}, exclude_defaults=True)
        for each in features
        if each.kind is not Kind.SEQUENCE
    ]
    return {
        "format": FORMAT,
        "data": fingerprint(sections["data"]),
        "preprocess": fingerprint(sections.get("preprocess", {})),
        "features": fingerprint(columns),
        _HISTORIES: features.history_length,
        _WEIGHTS: config.data.reward_weights,
    }


def finished(directory: Path, step: str) -> dict[str, Any]:
    """The manifest of a finished artifact.

    Args:
      directory: of the artifact.
      step: the command that makes it.

    Raises:
      LongtailError: there is none.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        raise LongtailError(
            f"expected a finished {directory}, found no {MANIFEST}: run {step} first"
        )
    return manifest


def finished_data(directory: Path, config: DataSections) -> dict[str, Any]:
    """The manifest of ``data/``.

    Raises:
      LongtailError: there is none, or it was made with other settings than these.
    """
    manifest = finished(directory, "preprocess")
    require_settings(manifest, config, str(directory))
    return manifest


def require_settings(manifest: dict[str, Any], config: DataSections, place: str) -> None:
    """Whether data fit a configuration; those that say nothing of their settings are taken as they are.

    Args:
      manifest: of the data.
      config: of the step that is to read them.
      place: where they lie, for the error.

    Raises:
      LongtailError: they were made with other settings.
    """
    wanted = settings(config)
    made = manifest.get("settings", wanted)
    other = sorted(name for name in wanted if made.get(name) != wanted[name])
    if _HISTORIES in other and made.get(_HISTORIES, 0) > wanted[_HISTORIES]:
        other.remove(_HISTORIES)  # longer ones are cut
    if _WEIGHTS in other and made.get(_WEIGHTS):
        other.remove(_WEIGHTS)  # without rewards below 0 they do as they are
    if other:
        raise LongtailError(
            f"{place}: expected data made with the settings of this configuration, received some "
            f"made with another {' and '.join(other)}: run preprocess again, or take the settings "
            "that they were made with"
        )


def finished_model(directory: Path, data: dict[str, Any]) -> dict[str, Any]:
    """The manifest of ``model/``.

    Args:
      directory: of the model.
      data: the manifest of the data that it is to be used with.

    Raises:
      LongtailError: there is none, or it was trained on other data, whose rows are not these.
    """
    manifest = finished(directory, "train")
    if not is_of(manifest, data):
        raise LongtailError(
            f"{directory}: expected a model trained on the data that it is used with, received one "
            "trained on others, whose rows are not these: run train again"
        )
    return manifest


def is_of(model: dict[str, Any], data: dict[str, Any]) -> bool:
    """Whether a model was trained on the data of this manifest, as far as it says."""
    return bool(model.get("data_fingerprint", data["fingerprint"]) == data["fingerprint"])
