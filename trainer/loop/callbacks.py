"""What happens beside the steps: checkpoints, early stopping, progress, TensorBoard, NaN.

Keras calls back once an execution of `train.steps_per_execution` steps, and at the end of each of
its "epochs", which here are the periods between two evaluations.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from preprocessing.base.errors import LongtailFailure
from trainer.base.keras2 import keras, tf
from trainer.config.sections import TrainConfig
from trainer.distributed.synchronous import SingleProcess
from trainer.loop.run_state import RunState
from trainer.loop.validation import Validation

_LINE_SECONDS = 10.0
"""Between two lines where no terminal shows a bar."""


class StopOnNaN(keras.callbacks.Callback):
    """Ends a run whose loss is no number. First in line, so that no checkpoint of it is written."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Raises LongtailFailure."""
        if logs and not math.isfinite(logs["loss"]):
            parts = ", ".join(f"{name} {value}" for name, value in logs.items())
            raise LongtailFailure(
                f"the loss is not a number at step {int(self.model.optimizer.iterations.numpy())} "
                f"({parts}): the learning rate is too high (train.learning_rate), the temperature "
                "too low (loss.temperature, ssl.temperature), or a numeric feature or reward "
                "holds huge values; the last checkpoint is from before"
            )


class CheckpointEvery(keras.callbacks.Callback):
    """Writes a checkpoint at the end of the execution that passes a multiple of n steps."""

    def __init__(self, state: RunState, every: int) -> None:
        """`every` n steps."""
        super().__init__()
        self._state, self._every = state, every
        self._last = state.step

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Saves where a multiple was passed."""
        step = self._state.step
        if step // self._every > self._last // self._every:
            self._state.save()
        self._last = step


class ValidationRecall(keras.callbacks.Callback):
    """Evaluates at the end of each period, keeps the best weights, stops when patience runs out."""

    def __init__(
        self,
        state: RunState,
        validation: Validation,
        train: TrainConfig,
        steps_per_epoch: int,
        console: Console,
        distribution: SingleProcess,
    ) -> None:
        """Prepares the callback; `steps_per_epoch` is that of the data, for the records."""
        super().__init__()
        self._distribution = distribution
        self._state, self._validation, self._train = state, validation, train
        self._steps_per_epoch, self._console = steps_per_epoch, console
        self._losses: dict[str, float] = {}
        self.figures: dict[str, float] = {}

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Remembers the losses for the record."""
        self._losses = dict(logs or {})

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluates and decides."""
        self.evaluate()
        if self._state.progress.stopped:
            self.model.stop_training = True

    def evaluate(self) -> None:
        """Evaluates the weights of this step; of several workers the chief does it for all."""
        progress = self._state.progress
        if self._distribution.is_chief:
            self._judge()
        progress.stopped = bool(self._distribution.from_chief(int(progress.stopped)))

    def _judge(self) -> None:
        state, monitor = self._state, self._train.monitor
        started = time.perf_counter()
        self.figures = self._validation.figures(state.model)
        seconds = time.perf_counter() - started
        step = state.step
        numbers = {
            name: round(float(value), 6) for name, value in {**self._losses, **self.figures}.items()
        }
        known = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        entry = {"step": step, "epoch": round(step / self._steps_per_epoch, 3), **known}
        is_best = state.record(
            {**entry, "evaluation_seconds": round(seconds, 2)},
            self.figures[monitor],
            self._train.patience,
        )
        if math.isnan(self.figures[monitor]):
            mark = "nobody has a target: the newest weights are kept, whatever they are worth"
        elif is_best:
            mark = "best so far"
        else:
            mark = f"best {state.progress.best:.4f} at step {state.progress.best_step}"
        self._console.print(
            f"  epoch {entry['epoch']:g}  {monitor} {self.figures[monitor]:.4f}  ({mark}) "
            f"[dim]{seconds:.1f} s[/dim]",
            highlight=False,
        )


class Speed:
    """Examples a second of the training steps alone, without evaluations and checkpoints."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size, self._started, self._last = batch_size, time.perf_counter(), 0
        self.steps, self.seconds, self.recent = 0, 0.0, 0.0

    def begin(self) -> None:
        """An execution starts."""
        self._started = time.perf_counter()

    def end(self, steps: int) -> None:
        """An execution of so many steps ended."""
        seconds = time.perf_counter() - self._started
        self.steps, self.seconds = self.steps + steps, self.seconds + seconds
        self.recent = steps * self._batch_size / max(seconds, 1e-9)

    @property
    def mean(self) -> float:
        """Since the start."""
        return self.steps * self._batch_size / self.seconds if self.seconds else 0.0


class ProgressReport(keras.callbacks.Callback):
    """A bar on a terminal, lines elsewhere: steps, examples a second, loss, time left."""

    def __init__(
        self, state: RunState, total_steps: int, batch_size: int, console: Console
    ) -> None:
        """`total_steps` if patience does not run out."""
        super().__init__()
        self._state, self._total, self._console = state, total_steps, console
        self.speed = Speed(batch_size)
        self._step, self._said = state.step, time.perf_counter()
        columns = [
            TextColumn("  training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
        ]
        self._bar = Bar(
            *columns,
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total_steps, completed=self._step)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Shows the bar."""
        self._bar.start()

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self.speed.begin()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Stops the clock and tells."""
        step = self._state.step
        # The first execution traces the graph: its time says nothing of the steps.
        if step - self._step and self._traced():
            self.speed.end(step - self._step)
        self._step = step
        loss = (logs or {}).get("loss", math.nan)
        text = f"steps  {self.speed.recent:,.0f} examples/s  loss {loss:.4f}"
        self._bar.update(self._task, completed=step, description=text)
        now = time.perf_counter()
        if not self._console.is_terminal and now - self._said > _LINE_SECONDS:
            left = (self._total - step) * self.speed.seconds / max(self.speed.steps, 1)
            self._console.print(
                f"  {step}/{self._total} {text}  {left:.0f} s left", highlight=False
            )
            self._said = now

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Takes the bar away."""
        self._bar.stop()

    def close(self) -> None:
        """Takes the bar away where training failed, too."""
        self._bar.stop()

    def _traced(self) -> bool:
        is_traced, self._was_called = getattr(self, "_was_called", False), True
        return is_traced


class Scalars(keras.callbacks.Callback):
    """TensorBoard: losses and speed an execution, figures an evaluation."""

    def __init__(
        self, state: RunState, log_dir: Path, speed: Speed, validation: ValidationRecall
    ) -> None:
        """Comes after the callbacks whose numbers it writes."""
        super().__init__()
        self._state, self._speed, self._validation = state, speed, validation
        self._writer = tf.summary.create_file_writer(str(log_dir))

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Writes losses and speed."""
        self._write({f"train/{name}": value for name, value in (logs or {}).items()})
        self._write({"train/examples_per_second": self._speed.recent})

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the figures."""
        self._write(
            {f"validation/{name}": value for name, value in self._validation.figures.items()}
        )
        self._writer.flush()

    def _write(self, values: dict[str, float]) -> None:
        with self._writer.as_default(step=self._state.step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
