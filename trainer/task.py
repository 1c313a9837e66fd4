"""The training step, and the entry point for Vertex AI: `python -m trainer.task CONFIG`."""

from __future__ import annotations

if __name__ == "__main__":  # before anything that imports TensorFlow
    import preprocessing.base.quiet  # noqa: F401

import argparse
import contextlib
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from preprocessing.base.artifacts import (
    fingerprint,
    is_current,
    read_manifest,
    write_manifest,
)
from preprocessing.base.config_io import load_config
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.locations import reachable
from preprocessing.base.sole_writer import sole_writer
from preprocessing.finished import finished_data
from trainer.base.keras2 import keras, tf
from trainer.config.sections import TrainerSections
from trainer.data.input_fn import TrainingData
from trainer.distributed.cluster import read_cluster
from trainer.distributed.parameter_servers import serve
from trainer.distributed.strategy import distribute
from trainer.distributed.synchronous import SingleProcess, Span
from trainer.loop.callbacks import (
    CheckpointEvery,
    ProgressReport,
    Scalars,
    StopOnNaN,
    ValidationRecall,
)
from trainer.loop.continuation import Previous
from trainer.loop.passes import Passes, is_anew
from trainer.loop.run_state import RunState, claim
from trainer.loop.validation import Validation


def training_fingerprint(
    config: TrainerSections, data_fingerprint: str, previous: str | None = None
) -> str:
    """What the trained weights depend on: the sections read here, the data, the model continued."""
    sections = config.model_dump(
        mode="json",
        include={"seed", "features", "towers", "loss", "negatives", "ssl", "train"},
        exclude={"train": {"min_shard_bytes", "grace_seconds"}},
    )
    sections["train"].pop("continue_from")  # a place; `previous` says what lies there
    del sections["train"]["continued_learning_rate"]
    final_fit = sections["train"].pop("final_fit")
    if previous is not None:
        sections["previous"] = previous
        if is_anew(config):
            sections["final_fit"] = final_fit
        else:
            sections["train"]["learning_rate"] = config.train.rate_of_continuation
    weights = config.data.reward_weights
    judged = config.evaluate.model_dump(
        mode="json", include={"ks", "bucket_shares", "max_validation_users"}
    )
    return fingerprint(sections, weights, judged, data_fingerprint)


def train(
    config: TrainerSections,
    data_dir: Path,
    model_dir: Path,
    *,
    console: Console | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Trains; goes on where a killed run stood; does nothing where `model_dir` is current.

    With `TF_CONFIG` set, this process is one task of several; see docs/workers.md.

    Args:
      config: the sections of the trainer.
      data_dir: finished preprocessing.
      model_dir: what another configuration left there is removed.
      console: for progress, default: the terminal.
      callbacks: further Keras callbacks.

    Returns:
      The manifest: steps, best figure and its step, examples a second, seconds; empty for a task
      of `TF_CONFIG` that trains nothing.

    Raises:
      LongtailError: the data are missing, empty or do not fit the configuration, or another
        process trains into `model_dir`.
      LongtailFailure: the loss became NaN, or the disk is full.
    """
    cluster = read_cluster()
    if cluster is not None and cluster.task == "evaluator":
        (console or Console()).print("  evaluator: nothing to do, the chief evaluates")
        return {}
    data_dir, model_dir, console = (
        Path(data_dir),
        Path(model_dir),
        console or Console(stderr=not sys.stdout.isatty()),
    )
    data = finished_data(data_dir, config)
    previous = None
    if config.train.continue_from is not None:
        previous = Previous.open(Path(config.train.continue_from))
        if previous.model_dir.resolve() == model_dir.resolve():
            raise LongtailError(
                "train.continue_from: expected the work_dir of an earlier run, received this run's "
                "own; give each day a work_dir of its own, e.g. --set work_dir=runs/2024-05-02"
            )
    wanted = training_fingerprint(
        config, data["fingerprint"], previous.fingerprint if previous else None
    )
    if previous is not None and not is_anew(config):
        section = {"learning_rate": config.train.rate_of_continuation}
        config = config.model_copy(update={"train": config.train.model_copy(update=section)})
    if is_current(model_dir, wanted):
        console.print(f"  model is current: {model_dir}", highlight=False)
        return read_manifest(model_dir) or {}
    if cluster is not None and cluster.is_server:
        serve(cluster, config, lambda: is_current(model_dir, wanted))
        return {}
    distribution = distribute(cluster, config)
    alone = sole_writer(model_dir) if distribution.is_chief else contextlib.nullcontext()
    with distribution.failures(model_dir), alone:
        if distribution.is_chief:
            claim(model_dir, wanted)
        distribution.from_chief(0)  # what another run left is gone before anybody restores
        started = time.perf_counter()
        keras.utils.set_random_seed(config.seed)
        with distribution.scope():
            passes = Passes.of(config, data_dir, previous, distribution, console)
        examples, model = passes.examples, passes.model
        period, periods = passes.period, passes.periods
        state = RunState(model, model_dir, config.train.keep_checkpoints, distribution.is_chief)
        if state.restore():
            console.print(f"  going on at step {state.step}", highlight=False)
        if distribution.from_chief(state.step) != state.step:
            raise LongtailError(
                f"expected every worker to see the chief's checkpoints, received step {state.step} in "
                f"{model_dir}: give all workers the same model directory, on storage that they share"
            )
        validation = ValidationRecall(
            state,
            Validation(config, data_dir),
            config.train,
            examples.steps_per_epoch,
            console,
            distribution,
        )
        report = ProgressReport(state, period * periods, config.train.batch_size, console)
        in_order = [StopOnNaN(), report]
        if distribution.is_chief:
            in_order.append(CheckpointEvery(state, config.train.checkpoint_every))
        in_order.append(validation)
        if distribution.is_chief:
            in_order.append(Scalars(state, model_dir / "logs", report.speed, validation))
        try:
            _fit(
                state, examples, distribution, period, periods, validation, [*in_order, *callbacks]
            )
        except (tf.errors.InvalidArgumentError, tf.errors.UnknownError) as error:
            if examples.failure is not None:
                raise examples.failure from error
            raise LongtailFailure(
                f"training failed at step {state.step}: {error.message}"
            ) from error
        finally:
            report.close()
        if distribution.is_chief:
            state.restore_best()
        summary = {
            "step": "train",
            "steps": state.step,
            "epochs": round(state.step / examples.steps_per_epoch, 3),
            "examples": examples.num_examples,
            "monitor": config.train.monitor,
            "best": None if math.isinf(state.progress.best) else round(state.progress.best, 6),
            "best_step": state.progress.best_step,
            "stopped_early": state.progress.stopped,
            "examples_per_second": round(report.speed.mean),
            "seconds": round(time.perf_counter() - started, 1),
            "data_fingerprint": data["fingerprint"],
            "passes": round(state.progress.best_step / examples.steps_per_epoch, 3),
            **passes.told,
        }
        if distribution.is_chief:
            write_manifest(model_dir, wanted, summary)
        distribution.from_chief(0)  # its manifest is there, and nobody leaves before the others
        return read_manifest(model_dir) or summary


def _fit(
    state: RunState,
    examples: TrainingData,
    distribution: SingleProcess,
    period: int,
    periods: int,
    validation: ValidationRecall,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Trains to the end; Keras's epochs are the periods between two evaluations."""
    done, within = divmod(state.step, period)
    if state.step and not within and len(state.progress.records) < done:
        # Killed between the last step of a period and the end of its evaluation.
        validation.evaluate()
    # A period that was begun has fewer steps left than Keras would give it.
    spans = [(done, done + 1, period - within)] if within else []
    for first, last, steps in [*spans, (done + bool(within), periods, period)]:
        if state.progress.stopped or first >= last:
            break
        span = Span(state.step, first, last, steps)
        distribution.fit(state.model, examples, span, callbacks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point for the clouds."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.task", description="Train the two-tower model."
    )
    parser.add_argument("config", help="YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value"
    )
    parser.add_argument("--data-dir", help="default: WORK_DIR/data")
    parser.add_argument("--model-dir", help="default: WORK_DIR/model")
    known = parser.parse_args(arguments)
    try:
        config = load_config(known.config, TrainerSections, known.set)
        data_dir = reachable(known.data_dir or f"{config.work_dir}/data")
        model_dir = reachable(known.model_dir or f"{config.work_dir}/model")
        summary = train(config, data_dir, model_dir)
    except LongtailError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if not summary:
        return 0
    print(
        f"{summary['monitor']} {summary['best']} at step {summary['best_step']}, "
        f"{summary['seconds']} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
