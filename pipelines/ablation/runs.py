"""The trainings of an ablation: each one a record on disk as soon as it is done."""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.ablation.arm_evaluation import ArmEvaluation
from preprocessing.base.artifacts import fingerprint, write_text_atomically
from preprocessing.base.errors import LongtailFailure
from trainer.base.keras2 import keras
from trainer.config.sections import TrainerSections
from trainer.loop.build import load_model
from trainer.loop.run_state import is_model
from trainer.task import train, training_fingerprint

Json = dict[str, Any]
_FORMAT = 1
"""Of the records; part of their keys."""
_QUIET = Console(quiet=True, force_terminal=False)


class Runs:
    """Trains and judges on demand; what a record holds already is not done again.

    Test is ranked for those trainings alone of which it is asked.
    """

    def __init__(
        self, config: TrainerSections, data_dir: Path, data: str, out: Path, betas: list[float]
    ) -> None:
        """Reads what models are judged by.

        Args:
          config: what all trainings share.
          data_dir: finished preprocessing.
          data: its fingerprint.
          out: for the records.
          betas: weights of log P when serving.

        Raises:
          LongtailError: the data are missing or damaged.
        """
        self.seconds: dict[str, float] = {}
        """Key -> seconds of training and judging, in this call or in an earlier one."""
        self._config, self._data_dir, self._data = config, data_dir, data
        self._judge = ArmEvaluation(config, data_dir, betas)
        self._records, self._models = out / "runs", out / "models"

    def key(self, config: TrainerSections) -> str:
        """Names the record of a training."""
        # The prior decides which of a run's evaluations counts as its best.
        prior = config.model_dump(mode="json", include={"prior"})
        trained = training_fingerprint(config, self._data)
        return fingerprint(_FORMAT, trained, prior, self._judge.betas)

    def has(self, config: TrainerSections, *splits: str) -> bool:
        """Whether the record of a training answers for these splits."""
        return _answers(self._read(self.key(config)), splits)

    def measured(self, config: TrainerSections, *splits: str) -> Json:
        """The record of a training, made or completed where it is not.

        The trained model stays until `forget`: a killed call goes on from its checkpoint, and test
        can be ranked once it is known whether it is wanted.

        Returns:
          `training`, and for each split group -> recall for each beta; or `failed`, the reason.

        Raises:
          LongtailFailure: the disk is full.
        """
        key = self.key(config)
        record = self._read(key)
        if not _answers(record, splits):
            started = time.perf_counter()
            self._complete(record, config, key, splits)
            self._finish(key, record, time.perf_counter() - started)
            # Dozens of models follow each other in one process.
            keras.backend.clear_session()
            gc.collect()
        self.seconds[key] = record["seconds"]
        return record

    def baselines(self) -> Json:
        """See `ArmEvaluation.baselines`; their record is made once, too."""
        settings = self._config.evaluate.model_dump(mode="json")
        key = "baselines-" + fingerprint(_FORMAT, self._config.seed, settings, self._data)
        record = self._read(key)
        if not record:
            started = time.perf_counter()
            record["rankers"] = self._judge.baselines()
            self._finish(key, record, time.perf_counter() - started)
        self.seconds[key] = record["seconds"]
        rankers: Json = record["rankers"]
        return rankers

    def forget(self, config: TrainerSections) -> None:
        """Removes a trained model; its record stays."""
        _remove(self._models / self.key(config))

    def forget_all(self) -> None:
        """Removes every trained model, those of killed calls with other settings too."""
        for path in self._models.glob("*"):
            _remove(path)
        with contextlib.suppress(OSError):
            self._models.rmdir()  # nothing else lies there

    def _complete(
        self, record: Json, config: TrainerSections, key: str, splits: tuple[str, ...]
    ) -> None:
        model_dir = self._models / key
        try:
            manifest = train(config, self._data_dir, model_dir, console=_QUIET)
        except LongtailFailure as error:
            if isinstance(error.__cause__, OSError):
                raise  # a full disk says nothing of the arm
            record["failed"] = str(error)
            self.forget(config)
            return
        speed = manifest["examples_per_second"]
        record["config"] = config.model_dump(
            mode="json", include={"seed", "towers", "prior", "loss", "negatives", "ssl", "train"}
        )
        record["training"] = {
            "seconds": manifest["seconds"],
            "steps": manifest["steps"],
            "best_step": manifest["best_step"],
            "ms_per_step": round(1000 * config.train.batch_size / speed, 2) if speed else None,
        }
        model = load_model(config, self._data_dir, model_dir)
        for name in splits:
            if name not in record:
                record[name] = self._judge.model(model, name)

    def _finish(self, key: str, record: Json, seconds: float) -> None:
        record["seconds"] = round(record.get("seconds", 0.0) + seconds, 1)
        text = json.dumps(record, indent=1, allow_nan=False)
        write_text_atomically(self._records / f"{key}.json", text + "\n")

    def _read(self, key: str) -> Json:
        try:
            loaded: Json = json.loads((self._records / f"{key}.json").read_text())
            return loaded
        except (FileNotFoundError, json.JSONDecodeError):
            return {}


def _remove(model_dir: Path) -> None:
    """Only what a training wrote: ``models`` may be a folder of the user's as well."""
    if is_model(model_dir):
        shutil.rmtree(model_dir, ignore_errors=True)


def _answers(record: Json, splits: tuple[str, ...]) -> bool:
    return "failed" in record or (bool(record) and all(name in record for name in splits))
