"""TFX's Pusher with versions that appear whole: a killed push leaves nothing a server could load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.pusher import executor
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import proto_utils

from pipelines.rollout.references import BLESSING
from pipelines.rollout.rollout import served_version
from pipelines.tfx.blessing import CHECKS, JUDGED
from preprocessing.base.artifacts import move_directory, write_text_atomically
from preprocessing.base.locations import reachable
from preprocessing.base.sole_writer import sole_writer
from serving.export.folder import read_labels, withdrawn_versions
from serving.export.labels import move_label, require_ours
from serving.export.publish import exclusive
from serving.export.run import ASSETS, newest_version, read_description
from trainer.evaluation.per_query import PER_QUERY

_HIDDEN = ".push"
_DESTINATION = "pushed_destination"


class WholePush(executor.Executor):
    """Lets Pusher copy into a hidden sibling and renames the finished version."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """As Pusher; the label follows, and `longtail rollback` takes it back."""
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        base = reachable(destination.filesystem.base_directory)
        require_ours(base)  # before a version appears
        there = self._twin(input_dict, base)
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if there is not None:
            self._MarkPushed(pushed, pushed_destination=str(there), pushed_version=there.name)
            _label(base, exec_properties, int(there.name))
            return
        hidden = base / _HIDDEN
        with sole_writer(hidden):
            self._push(input_dict, output_dict, exec_properties, destination, hidden)

    def _push(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
        destination: pusher_pb2.PushDestination,
        hidden: Path,
    ) -> None:
        base, pushed = (
            hidden.parent,
            artifact_utils.get_single_instance(output_dict["pushed_model"]),
        )
        shutil.rmtree(hidden, ignore_errors=True)
        destination.filesystem.base_directory = str(hidden)
        hidden_properties = {
            **exec_properties, "push_destination": proto_utils.proto_to_json(destination)
        }  # fmt: skip
        super().Do(input_dict, output_dict, hidden_properties)
        for version in hidden.glob("*"):
            blessed = artifact_utils.get_single_instance(input_dict["model_blessing"])
            blessing = reachable(blessed.uri)
            record = {
                "checks": json.loads((blessing / CHECKS).read_text()),
                "model": blessed.get_string_custom_property(JUDGED),  # not the one fitted from it
            }
            if (blessing / PER_QUERY).is_file():
                shutil.copy(blessing / PER_QUERY, version / ASSETS / PER_QUERY)
            write_text_atomically(version / ASSETS / BLESSING, json.dumps(record, indent=2) + "\n")
            with exclusive(base):
                newest = newest_version(base)
                number = max(int(version.name), int(newest.name) + 1 if newest else 1)
                move_directory(version, base / str(number))
                pushed.set_string_custom_property(_DESTINATION, str(base / str(number)))
                _label(base, exec_properties, number)
        shutil.rmtree(hidden, ignore_errors=True)

    def _twin(self, input_dict: dict[str, list[types.Artifact]], base: Path) -> Path | None:
        """The version that is this model already: a second run pushes no twin."""
        if not self.CheckBlessing(input_dict):
            return None
        model = read_description(reachable(self.GetModelPath(input_dict)))
        return served_version(base, model["fingerprint"]) if model else None


def _label(base: Path, exec_properties: dict[str, Any], version: int) -> None:
    """Let the label name a version, unless that was rolled back or is older than the labelled one."""
    label = json.loads(exec_properties["custom_config"])["label"]
    with exclusive(base):
        labelled = read_labels(str(base)).get(label, -1)
        if version not in withdrawn_versions(base) and version > labelled:
            move_label(base, label, version)
