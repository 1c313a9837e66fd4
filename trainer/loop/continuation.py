"""Yesterday's model as the start of today's: every row of a known key is kept, new keys start anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.base.artifacts import read_manifest
from preprocessing.base.errors import LongtailError
from preprocessing.features import Feature, Kind, Side
from preprocessing.finished import is_of
from trainer.base.keras2 import tf
from trainer.config.loss import LossConfig, PriorConfig
from trainer.config.sections import TowerConfig, TrainerSections
from trainer.data.vocabulary import PADDING, Rows, open_transform
from trainer.loop.build import BEST_WEIGHTS, build_model
from trainer.negatives.carry_frequency import carry_frequency
from trainer.towers.recall_model import RecallModel


@dataclass(frozen=True)
class Previous:
    """A finished run that another one goes on from.

    Attributes:
      data_dir: its preprocessing.
      model_dir: its training.
      fingerprint: of the model.
      until: seconds since 1970 where its training events end, None where they have no such end.
      passes: epochs of the training from scratch that it goes back to, at its best; None where the
        manifest does not say.
    """

    data_dir: Path
    model_dir: Path
    fingerprint: str
    until: int | None
    passes: float | None = None

    @classmethod
    def open(cls, work_dir: Path) -> Previous:
        """Reads the manifests.

        Raises:
          LongtailError: the run is not there or not finished.
        """
        data_dir, model_dir = Path(work_dir) / "data", Path(work_dir) / "model"
        data, model = read_manifest(data_dir), read_manifest(model_dir)
        if data is None or model is None:
            raise LongtailError(
                f"train.continue_from: {work_dir} is no finished run, since "
                f"{data_dir if data is None else model_dir}/manifest.json is missing: name the work_dir of "
                "an earlier run"
            )
        if not is_of(model, data):
            raise LongtailError(
                f"train.continue_from: expected model and data of one run in {work_dir}, received "
                "data that were made anew after the training; train there again, or name another"
            )
        end = data.get("split", {}).get("validation_from")
        until = int(np.datetime64(end, "s").astype(np.int64)) if end else None
        return cls(data_dir, model_dir, str(model["fingerprint"]), until, model.get("passes"))

    def require_until(self) -> int:
        """`until`; raises LongtailError where the split has no boundary in time."""
        if self.until is None:
            raise LongtailError(
                f"train.continue_from: expected a run with preprocess.split.method global_time, "
                f"received one without a boundary in time in {self.data_dir}; new events can only "
                "be told from old ones by time (instead of a final fit, name the work_dir that it is of)"
            )
        return self.until


def as_it_was(config: TrainerSections, earlier: Mapping[str, Any]) -> TrainerSections:
    """Today's configuration with what an earlier model answers by: its towers, prior and loss.

    Args:
      config: today's.
      earlier: sections of the configuration that the model was made with.
    """
    prior = earlier.get("prior")
    # What a later version has dropped (feature_dropout) made no difference to how a model answers.
    towers = {k: v for k, v in earlier["towers"].items() if k in TowerConfig.model_fields}
    return config.model_copy(
        update={
            "towers": TowerConfig(**towers),
            "prior": None if prior is None else PriorConfig(**prior),
            "loss": LossConfig(**earlier["loss"]),
        }
    )


def carried_over(
    config: TrainerSections, data_dir: Path, previous: Previous
) -> tuple[RecallModel, dict[str, dict[str, int]]]:
    """A model for today's data that knows what yesterday's best weights know.

    Rows of embedding tables are found by key, since vocabularies are made anew each day; hashed
    buckets and quantiles keep their place, and a new key starts as the bucket that it was hashed to.
    Adagrad's accumulators go with their rows, as of the last checkpoint. Everything else, the dense
    layers, is taken as it is. The memory bank starts empty, the momentum tower as a copy of the
    tower.

    Args:
      config: with yesterday's features and towers.
      data_dir: today's preprocessing.
      previous: yesterday's run.

    Returns:
      The model, compiled, at step 0; and for each table how many rows were `kept`, are `new`, or
      are `gone` since today's vocabulary lacks their key.

    Raises:
      LongtailError: yesterday's weights do not fit the configuration.
    """
    model = build_model(config, data_dir)
    old, steps = _restored(config, previous)
    maps = _row_maps(config, previous.data_dir, data_dir)
    owners = {
        variable.ref(): owner
        for tower in (model.item_tower, model.query_tower)
        for owner, variable in tower.embeddings.tables.items()
    }
    for new, before in zip(model.trainable_variables, old.trainable_variables, strict=True):
        rows = maps[owners[new.ref()]] if new.ref() in owners else None
        accumulators = model.optimizer.accumulator_of(new), old.optimizer.accumulator_of(before)
        for target, source in ((new, before), accumulators):
            if rows is None:
                target.assign(source)
                continue
            values = target.numpy()
            theirs = source.numpy()
            values[rows.new] = theirs[rows.old]
            if target is new:
                # A new key goes on from what it read until now; its accumulator starts anew.
                values[rows.fresh] = theirs[rows.unknown]
            target.assign(values)
    if model.negatives.momentum_tower is not None:
        model.negatives.momentum_tower.catch_up()
    if model.negatives.frequency is not None and old.negatives.frequency is not None:
        carry_frequency(
            old.negatives.frequency,
            model.negatives.frequency,
            Rows.of_keys(list(old.item_table.ids[1:]), list(model.item_table.ids[1:]), 0),
            steps,
        )
    return model, {owner: rows.summary() for owner, rows in maps.items()}


def _restored(config: TrainerSections, previous: Previous) -> tuple[RecallModel, int]:
    """Yesterday's model with its best weights, its newest accumulators and estimates; its steps."""
    old = build_model(config, previous.data_dir)
    newest = tf.train.latest_checkpoint(str(previous.model_dir / "checkpoints"))
    if newest is None:
        raise LongtailError(
            f"train.continue_from: the checkpoints in {previous.model_dir} are missing, which hold the "
            "optimizer's state: keep them, or train from scratch"
        )
    try:
        _restore(tf.train.Checkpoint(optimizer=old.optimizer), newest)
        _restore(old.weights_checkpoint(), str(previous.model_dir / BEST_WEIGHTS))
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise LongtailError(
            f"train.continue_from: expected features and towers as in {previous.model_dir}, "
            f"received others ({str(error).splitlines()[0]}); train from scratch after such a change"
        ) from error
    if old.negatives.frequency is not None:
        try:
            own = tf.train.Checkpoint(frequency=old.negatives.frequency)
            _restore(tf.train.Checkpoint(negatives=own), newest)
        except (AssertionError, ValueError):  # yesterday's had none, or another size: start anew
            old.negatives.frequency = None
    return old, int(old.optimizer.iterations.numpy())


def _restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
    status = checkpoint.read(path)
    status.assert_existing_objects_matched()
    status.expect_partial()


def _row_maps(config: TrainerSections, old_dir: Path, new_dir: Path) -> dict[str, Rows]:
    """Owner of each table -> which of its rows are the same on both days."""
    outputs: dict[tuple[Path, str], Any] = {
        (path, side): open_transform(path, side)
        for path in (old_dir, new_dir)
        for side in ("query", "item")
    }
    maps = {}
    for feature in config.feature_list:
        if feature.is_embedded and feature.shared_with is None:
            side = "item" if feature.side is Side.ITEM else "query"
            maps[feature.name] = _rows(feature, outputs[old_dir, side], outputs[new_dir, side])
    return maps


def _rows(feature: Feature, old: Any, new: Any) -> Rows:
    if feature.kind is Kind.NUMERIC:
        assert feature.buckets is not None  # else it has no table
        same = np.arange(feature.buckets + PADDING)
        none = np.zeros(0, np.int64)
        return Rows(same, same, none, none, 0)
    before, now = (list(output.vocabulary_by_name(feature.name)) for output in (old, new))
    return Rows.of_keys(before, now, feature.num_oov_buckets)
