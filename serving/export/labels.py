"""Which version a label names: `labels.json` is the truth, `models.config` the same for TF Serving.

python -m serving.export.labels EXPORT_DIR [--base-path /models/recall]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from preprocessing.base.artifacts import write_text_atomically
from preprocessing.base.errors import LongtailError
from serving.export.folder import (
    LABELS_FILE,
    WITHDRAWN,
    check_export_dir,
    read_labels,
    version_paths,
    withdrawn_versions,
)
from serving.export.publish import exclusive

MODELS_CONFIG = "models.config"
_OURS = "# Written by Longtail anew with each export, label and rollback: what is edited here is lost.\n"
"""First line of a `models.config` that may be replaced."""


def require_ours(export_dir: Path) -> None:
    """Refuses a folder of versions in which a label cannot be moved without a loss.

    Raises:
      LongtailError: `models.config` is not one that was written here, or `labels.json` holds no labels.
    """
    read_labels(str(export_dir))
    path = Path(export_dir) / MODELS_CONFIG
    if not os.path.lexists(path):
        return
    try:
        ours = path.read_bytes().startswith(_OURS.encode())
    except OSError:
        ours = False
    if not ours:
        raise LongtailError(
            f"{path}: expected none, or one that Longtail wrote (its first line says so), received another, which "
            "was left as it is: move it out of this folder and start again; python -m serving.export.labels "
            f"{export_dir} prints what to put into a file of your own"
        )


def move_label(export_dir: Path, label: str, version: int) -> None:
    """Let a label name another version, in one rename: at any instant it names the old or the new.

    A version that was withdrawn is taken back into service.

    Raises:
      LongtailError: there is no such version, or see `require_ours`; the label stays.
      LongtailFailure: the disk is full; the label stays.
    """
    with exclusive(export_dir):
        require_ours(export_dir)
        paths = version_paths(export_dir)
        if version not in paths:
            raise LongtailError(
                f"{export_dir}: expected a version of {sorted(paths)} for the label {label}, "
                f"received {version}"
            )
        labels = {**read_labels(str(export_dir)), label: version}
        text = json.dumps(labels, sort_keys=True) + "\n"
        write_text_atomically(Path(export_dir) / LABELS_FILE, text)
        (Path(paths[version]) / WITHDRAWN).unlink(missing_ok=True)
        # After the truth; what a kill leaves undone here the next move does.
        refresh_models_config(export_dir)


def withdraw(export_dir: Path, version: int) -> None:
    """Say of a version that nobody should be answered by it, unless by number or label.

    Raises:
      LongtailError: see `require_ours`.
    """
    with exclusive(export_dir):
        if ServedVersions.of(export_dir):
            require_ours(export_dir)
        path = Path(version_paths(export_dir)[version])
        write_text_atomically(path / WITHDRAWN, "withdrawn by a rollback\n")
        refresh_models_config(export_dir)


def refresh_models_config(export_dir: Path) -> None:
    """Write `models.config` anew, where there are labels.

    Raises:
      LongtailError: see `require_ours`.
    """
    if served := ServedVersions.of(export_dir):
        require_ours(export_dir)
        name = Path(export_dir).name
        text = _OURS + models_config(name, served, f"/models/{name}")
        write_text_atomically(Path(export_dir) / MODELS_CONFIG, text)


class ServedVersions(NamedTuple):
    """What TF Serving has to load to answer as the embedded server does.

    Without a version it is answered by the highest one that is loaded, and it knows nothing of withdrawn
    ones: above the newest that is in service nothing may be loaded. A label that still names a
    withdrawn version up there is left out; the embedded server goes on answering it.

    Attributes:
      versions: the newest that is not withdrawn, and those that labels name.
      labels: versions by label.
      left_out: the labels that cannot be served.
    """

    versions: list[int]
    labels: dict[str, int]
    left_out: dict[str, int]

    @classmethod
    def of(cls, export_dir: str | os.PathLike[str]) -> ServedVersions | None:
        """Of a folder of versions; None where no label names one of them."""
        on_disk = set(version_paths(export_dir))
        named = {k: v for k, v in read_labels(os.fspath(export_dir)).items() if v in on_disk}
        if not named:
            return None
        newest = max(on_disk - withdrawn_versions(export_dir) or on_disk)
        labels = {label: version for label, version in named.items() if version <= newest}
        left_out = {label: version for label, version in named.items() if version > newest}
        return cls(sorted({newest, *labels.values()}), labels, left_out)


def models_config(name: str, served: ServedVersions, base_path: str) -> str:
    """The text of TF Serving's `--model_config_file`.

    Args:
      name: of the model.
      served: versions and labels.
      base_path: where TF Serving sees the folder of versions.
    """
    versions = " ".join(f"versions: {version}" for version in served.versions)
    named = "".join(
        f"    version_labels {{ key: {json.dumps(label)} value: {version} }}\n"
        for label, version in sorted(served.labels.items())
    )
    left_out = "".join(
        f"    # label {label} is left out: version {version} is withdrawn and would answer requests "
        "without a version\n"
        for label, version in sorted(served.left_out.items())
    )
    return (
        "model_config_list {\n  config {\n"
        f"    name: {json.dumps(name)}\n"
        f"    base_path: {json.dumps(base_path)}\n"
        '    model_platform: "tensorflow"\n'
        f"    model_version_policy {{ specific {{ {versions} }} }}\n"
        f"{named}{left_out}  }}\n}}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the models.config of a folder of versions."""
    parser = argparse.ArgumentParser(prog="python -m serving.export.labels", description=__doc__)
    parser.add_argument("export_dir", help="a folder with numbered versions: export/<model>")
    parser.add_argument("--base-path", help="as TF Serving sees it; default: /models/<model>")
    given = parser.parse_args(arguments)
    try:
        check_export_dir(given.export_dir)
        served = ServedVersions.of(given.export_dir)
        if served is None:
            raise LongtailError(
                f"{given.export_dir}: {LABELS_FILE} holds no label: roll a version out first "
                "(longtail run CONFIG)"
            )
        name = os.path.basename(os.path.abspath(given.export_dir))
        print(models_config(name, served, given.base_path or f"/models/{name}"), end="")
        for version in sorted(withdrawn_versions(given.export_dir)):
            print(f"# withdrawn: {version}")
    except LongtailError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
