"""Examples a second of one worker and of two, each with one core and one thread.

    python -m benchmarks.workers [--batch-size 4096] [--items 100000] [--history 20]

The batch is that of all workers together, so both do the same mathematics. With `--per-worker` each
worker has a batch of that size instead, as a larger cluster would be used; each then scores its
queries against the items of all, which is more work an example. Wants an idle machine of two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.step_time import synthetic, synthetic_config
from trainer.base.keras2 import keras, tf
from trainer.data.input_fn import Part
from trainer.distributed.cluster import read_cluster
from trainer.distributed.strategy import distribute
from trainer.distributed.synchronous import Span

_STEPS = 8
"""Steps of an execution."""


class _Clock(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seconds.append((time.perf_counter() - self._started) / _STEPS)


class _Examples:
    """What a distribution reads of `TrainingData`."""

    def __init__(self, batches: tf.data.Dataset, part: Part | None) -> None:
        self._batches, self._part = batches, part

    def dataset(self, _: int) -> tf.data.Dataset:
        if self._part is None:
            return self._batches
        first, _, of = self._part
        return self._batches.map(
            lambda batch: {name: tf.split(values, of)[first] for name, values in batch.items()}
        )


def work(batch_size: int, items: int, history: int, ssl: bool, executions: int, out: Path) -> None:
    """One worker: writes the seconds a step of each execution but the first, which traces."""
    config = synthetic_config(batch_size, history, ssl)
    train = config.train.model_copy(update={"steps_per_execution": _STEPS})
    config = config.model_copy(update={"train": train})
    distribution = distribute(read_cluster(), config)
    with distribution.scope():
        model, batches = synthetic(config, items)
        model.optimizer.build(model.trainable_variables)
        model.compile(optimizer=model.optimizer, steps_per_execution=_STEPS)
    clock, steps = _Clock(), (executions + 1) * _STEPS
    examples: Any = _Examples(batches, distribution.part)
    distribution.fit(model, examples, Span(0, 0, 1, steps), [clock])
    out.write_text(json.dumps(clock.seconds[1:]))
    distribution.from_chief(0)


def measure(workers: int, arguments: list[str]) -> list[float]:
    """Seconds a step, as the first of so many workers sees them, each on a core of its own."""
    with TemporaryDirectory() as place:
        sockets = [socket.socket() for _ in range(workers)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
        for each in sockets:
            each.close()
        cores, running = sorted(os.sched_getaffinity(0)), []
        try:
            for index in range(workers):
                task = {"type": "worker", "index": index}
                environment = {
                    **os.environ,
                    "TF_NUM_INTRAOP_THREADS": "1",
                    "TF_NUM_INTEROP_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                    "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task}),
                }
                out = f"{place}/{index}.json"
                command = [sys.executable, "-m", "benchmarks.workers", *arguments, "--out", out]
                core = {cores[index % len(cores)]}
                process = subprocess.Popen(command, env=environment)
                os.sched_setaffinity(process.pid, core)  # before it makes threads
                running.append(process)
            if [code for code in [process.wait() for process in running] if code]:
                raise SystemExit("a worker failed")
        finally:
            for process in running:
                process.kill()
                process.wait()
        seconds: list[float] = json.loads(Path(place, "0.json").read_text())
        return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--history", type=int, default=20)
    parser.add_argument("--ssl", action="store_true", help="with self-supervision")
    parser.add_argument("--executions", type=int, default=6)
    parser.add_argument("--per-worker", action="store_true", help="the batch is each worker's")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.out:
        work(known.batch_size, known.items, known.history, known.ssl, known.executions, known.out)
        return
    table = Table(
        "workers", "batch", "best ms/step", "median ms/step", "examples/s (best)", "times"
    )
    alone = 0.0
    for workers in (1, 2):
        batch = known.batch_size * (workers if known.per_worker else 1)
        arguments = ["--batch-size", str(batch), "--items", str(known.items)]
        arguments += ["--history", str(known.history), "--executions", str(known.executions)]
        seconds = sorted(measure(workers, arguments + ["--ssl"] * known.ssl))
        best, median = seconds[0], seconds[len(seconds) // 2]
        speed = batch / best
        alone = alone or speed
        numbers = [f"{best * 1e3:.1f}", f"{median * 1e3:.1f}", f"{speed:,.0f}"]
        table.add_row(str(workers), str(batch), *numbers, f"{speed / alone:.2f}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    Console(width=110).print(table, f"{os.cpu_count()} cores, load average {load}")


if __name__ == "__main__":
    main()
