"""The state of a training run: what a checkpoint holds, so that a killed run can go on."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from preprocessing.base.artifacts import (
    MANIFEST,
    discard_leftovers,
    is_ours,
    require_replaceable,
    whole_directory,
    write_text_atomically,
)
from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import tf
from trainer.loop.build import BEST_WEIGHTS
from trainer.towers.recall_model import RecallModel

_MARKER = "run"
"""File with the fingerprint of the run that the checkpoints belong to."""
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_OWN = ("checkpoints", "best", "logs", "history.json", MANIFEST, _MARKER)


def claimed_by(model_dir: Path) -> str | None:
    """`training_fingerprint` of what is in the directory, finished or not; None of nothing."""
    marker = model_dir / _MARKER
    try:
        text = marker.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _FINGERPRINT.fullmatch(text) else None


def steps_done(model_dir: Path) -> float:
    """Of its newest checkpoint; infinite of a finished training, -1 without a checkpoint."""
    if (model_dir / MANIFEST).is_file():
        return math.inf
    newest = tf.train.latest_checkpoint(str(model_dir / "checkpoints"))
    return int(newest.rpartition("-")[2]) if newest else -1


def is_model(model_dir: Path) -> bool:
    """Whether a training wrote to the directory, finished or not."""
    return is_ours(model_dir) or claimed_by(model_dir) is not None


def claim(model_dir: Path, wanted: str) -> None:
    """Removes what another run left in the directory; what a killed one left of this stays.

    Raises:
      LongtailError: the directory holds files of such names that no training of ours wrote.
    """
    require_replaceable(model_dir, ours=lambda _: True)
    if claimed_by(model_dir) != wanted:
        foreign = [name for name in _OWN if os.path.lexists(model_dir / name)]
        if foreign and not is_model(model_dir):
            raise LongtailError(
                f"{model_dir}: expected a new folder or one that Longtail trained into, received one with "
                f"{', '.join(foreign)} of somebody else; nothing was touched: name another place"
            )
        for name in _OWN:
            path = model_dir / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    discard_leftovers(model_dir / BEST_WEIGHTS.parent)
    write_text_atomically(model_dir / _MARKER, wanted + "\n")


@dataclass
class Progress:
    """What the evaluations found so far.

    Attributes:
      best: highest validation figure; -inf before the first.
      best_step: its step.
      since_best: evaluations without a better one.
      stopped: whether patience ran out.
      records: one an evaluation, the content of history.json.
    """

    best: float = -math.inf
    best_step: int = 0
    since_best: int = 0
    stopped: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)


class _Saved(tf.train.experimental.PythonState):
    """Lets a checkpoint hold `Progress`."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = Progress()

    def serialize(self) -> str:
        return json.dumps(asdict(self.progress))

    def deserialize(self, serialized: bytes) -> None:
        self.progress = Progress(**json.loads(serialized))


class RunState:
    """Weights, optimizer, step and progress of a run, with their files below a model directory."""

    def __init__(self, model: RecallModel, model_dir: Path, keep: int, writes: bool = True) -> None:
        """Takes a compiled model; `keep` checkpoints stay; of several workers one `writes`."""
        self.model, self.model_dir, self._writes = model, Path(model_dir), writes
        self._saved = _Saved()
        checkpoint = tf.train.Checkpoint(
            query_tower=model.query_tower,
            item_tower=model.item_tower,
            optimizer=model.optimizer,
            negatives=model.negatives,
            progress=self._saved,
            **model.task_state(),
        )
        self._manager = tf.train.CheckpointManager(
            checkpoint, str(self.model_dir / "checkpoints"), max_to_keep=keep
        )

    @property
    def progress(self) -> Progress:
        """The evaluations so far."""
        return self._saved.progress

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.model.optimizer.iterations.numpy())

    def restore(self) -> bool:
        """Go to the newest checkpoint; False where there is none.

        Raises:
          LongtailError: it holds other variables, or values of other types, than this run.
        """
        newest = self._manager.latest_checkpoint
        if newest is None:
            return False
        # History of a run that went on after its last checkpoint is written anew: the steps are
        # repeated. Older checkpoints of parameter servers hold the item table as well.
        try:
            restored = self._manager.checkpoint.restore(newest)
            restored.assert_existing_objects_matched().expect_partial()
        except (AssertionError, ValueError, tf.errors.InvalidArgumentError) as error:
            raise LongtailError(
                f"{newest}: expected a checkpoint of this version of Longtail, received one of other "
                f"variables or types ({str(error).splitlines()[0]}); it was left as it is: go on with the "
                "version that wrote it, or train anew in another work_dir"
            ) from error
        return True

    def save(self) -> None:
        """Write a checkpoint of this step."""
        if self._writes:
            self._manager.save(checkpoint_number=self.step)

    def record(self, entry: dict[str, Any], figure: float, patience: int) -> bool:
        """Notes an evaluation: keeps the best weights, counts patience, writes history.json.

        Args:
          entry: of history.json.
          figure: what decides; NaN (nobody has a target) keeps the newest weights and never stops.
          patience: evaluations without a better figure before stopping.

        Returns:
          Whether these weights are the best so far.
        """
        progress = self.progress
        is_best = math.isnan(figure) or figure > progress.best
        if is_best:
            progress.best = progress.best if math.isnan(figure) else figure
            progress.best_step, progress.since_best = self.step, 0
            # The directory around it is claimed, so that what lies there is ours.
            place = self.model_dir / BEST_WEIGHTS.parent
            with whole_directory(place, ours=lambda _: True) as best:
                self.model.weights_checkpoint().write(str(best / BEST_WEIGHTS.name))
        else:
            progress.since_best += 1
        progress.stopped = progress.since_best >= patience
        progress.records.append(entry)
        write_text_atomically(
            self.model_dir / "history.json", json.dumps(progress.records, indent=1) + "\n"
        )
        self.save()
        return is_best

    def restore_best(self) -> None:
        """Give the model the weights of its best evaluation."""
        self.model.weights_checkpoint().read(str(self.model_dir / BEST_WEIGHTS)).expect_partial()
