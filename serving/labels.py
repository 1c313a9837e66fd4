"""Which version a label names: `labels.json` is the truth, `models.config` the same for TF Serving.

python -m serving.labels EXPORT_DIR [--base-path /models/recall]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from preprocessing.artifacts import write_text_atomically
from preprocessing.errors import LongtailError
from serving.export_dir import (
    LABELS_FILE,
    WITHDRAWN,
    check_export_dir,
    read_labels,
    version_paths,
    withdrawn_versions,
)

MODELS_CONFIG = "models.config"


def move_label(export_dir: Path, label: str, version: int) -> None:
    """Let a label name another version, in one rename: at any instant it names the old or the new.

    A version that was withdrawn is taken back into service.

    Raises:
      LongtailError: there is no such version.
      LongtailFailure: the disk is full; the label stays.
    """
    paths = version_paths(export_dir)
    if version not in paths:
        raise LongtailError(
            f"{export_dir}: expected a version of {sorted(paths)} for the label {label}, received "
            f"{version}"
        )
    labels = {**read_labels(str(export_dir)), label: version}
    write_text_atomically(Path(export_dir) / LABELS_FILE, json.dumps(labels, sort_keys=True) + "\n")
    (Path(paths[version]) / WITHDRAWN).unlink(missing_ok=True)
    # After the truth; what a kill leaves undone here the next move does.
    text = models_config(Path(export_dir).name, labels, f"/models/{Path(export_dir).name}")
    write_text_atomically(Path(export_dir) / MODELS_CONFIG, text)


def withdraw(export_dir: Path, version: int) -> None:
    """Say of a version that nobody should be answered by it, unless by number or label."""
    path = Path(version_paths(export_dir)[version])
    write_text_atomically(path / WITHDRAWN, "withdrawn by a rollback\n")


def models_config(name: str, labels: Mapping[str, int], base_path: str) -> str:
    """The text of TF Serving's `--model_config_file`: exactly the labelled versions, under their labels.

    Args:
      name: of the model.
      labels: at least one.
      base_path: where TF Serving sees the folder of versions.
    """
    versions = " ".join(f"versions: {version}" for version in sorted(set(labels.values())))
    named = "".join(
        f"    version_labels {{ key: {json.dumps(label)} value: {version} }}\n"
        for label, version in sorted(labels.items())
    )
    return (
        "model_config_list {\n  config {\n"
        f"    name: {json.dumps(name)}\n"
        f"    base_path: {json.dumps(base_path)}\n"
        '    model_platform: "tensorflow"\n'
        f"    model_version_policy {{ specific {{ {versions} }} }}\n"
        f"{named}  }}\n}}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the models.config of a folder of versions."""
    parser = argparse.ArgumentParser(prog="python -m serving.labels", description=__doc__)
    parser.add_argument("export_dir", help="a folder with numbered versions: export/<model>")
    parser.add_argument("--base-path", help="as TF Serving sees it; default: /models/<model>")
    given = parser.parse_args(arguments)
    try:
        check_export_dir(given.export_dir)
        labels = read_labels(given.export_dir)
        if not labels:
            raise LongtailError(
                f"{given.export_dir}: expected labels in {LABELS_FILE}, received none; roll a "
                "version out first (longtail run CONFIG)"
            )
        name = os.path.basename(os.path.abspath(given.export_dir))
        print(models_config(name, labels, given.base_path or f"/models/{name}"), end="")
        for version in sorted(withdrawn_versions(given.export_dir)):
            print(f"# withdrawn: {version}")
    except LongtailError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
