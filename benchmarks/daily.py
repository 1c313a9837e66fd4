"""What a training that goes on from yesterday's model is worth beside one from scratch, day after day.

    python -m benchmarks.daily configs/complete_journey.yaml [--days 3] [--step 7] [--seeds 3] [--out FILE.json]

The log is cut at some instants, `--step` days apart, the last at its end. Each day is preprocessed, trained from
scratch and, from the second on, continued; both are evaluated on that day's own test split. The learning rate of
a continuation, as a factor on that of the configuration, is chosen on validation of the second day with the first
seed. Finished parts are found again in `--work-dir`.
"""

from __future__ import annotations

import argparse
import json
from datetime import timedelta
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipelines import config as configuration
from pipelines import datasets
from preprocessing.base.artifacts import library_versions, write_text_atomically
from preprocessing.run import preprocess
from trainer.config.sections import TrainerSections
from trainer.evaluate import evaluate
from trainer.task import train

GROUPS = ("overall", "head", "torso", "tail")


class Days:
    """The runs of a comparison, each in a directory of its own."""

    def __init__(self, path: Path, root: Path, days: int, step: int) -> None:
        self._path, self._root, self._console = path, root, Console()
        config, _ = configuration.load(path)
        datasets.fetch(config.data)
        source, time = config.data.interactions.path, config.data.columns.timestamp
        log = pq.read_table(source)
        end = pc.max(log[time]).as_py()
        for day in range(1, days + 1):
            data_dir = self._data(day)
            if (data_dir / "manifest.json").is_file():
                continue
            until = end - timedelta(days=step * (days - day))
            cut = root / f"log-{day}.parquet"
            root.mkdir(parents=True, exist_ok=True)
            pq.write_table(log.filter(pc.less_equal(log[time], until)), cut)
            self._console.print(f"day {day}: the log until {until}", highlight=False)
            preprocess(configuration.load(path, [f"data.interactions.path={cut}"])[0], data_dir)

    def run(self, day: int, seed: int, before: str | None = None, rate: float = 1.0) -> str:
        """Trains and evaluates, unless that is done; `before` names the run to go on from.

        Returns:
          The name of the run.
        """
        name = f"day-{day}-seed-{seed}" + (f"-continued-{rate:g}" if before else "")
        work_dir, config = self._root / name, self._config(seed, before, rate)
        work_dir.mkdir(exist_ok=True)
        if not (work_dir / "data").exists():
            (work_dir / "data").symlink_to(self._data(day).resolve())
        train(config, work_dir / "data", work_dir / "model", console=self._console)
        command = "python -m benchmarks.daily"
        evaluate(
            config, work_dir / "data", work_dir / "model", work_dir / "evaluation", command=command
        )
        return name

    def figures(self, name: str) -> dict[str, float]:
        """Recall on test, new items, by group; on validation under `validation`; what it took."""
        metrics = json.loads((self._root / name / "evaluation" / "metrics.json").read_text())
        trained = json.loads((self._root / name / "model" / "manifest.json").read_text())
        recall = f"recall@{metrics['ks'][-1]}"
        test, validation = (
            metrics["splits"][split]["rankers"]["model"]["new"] for split in ("test", "validation")
        )
        return {
            **{group: test[group][recall] for group in GROUPS},
            "validation": validation["overall"][recall],
            "examples": trained["examples"] * trained["epochs"],
            "seconds": trained["seconds"],
        }

    def _data(self, day: int) -> Path:
        return self._root / f"data-{day}"

    def _config(self, seed: int, before: str | None, rate: float) -> TrainerSections:
        config, _ = configuration.load(self._path, ["evaluate.baselines=[]", f"seed={seed}"])
        changes: dict[str, Any] = {}
        if before is not None:
            changes["continue_from"] = str(self._root / before)
            changes["continued_learning_rate"] = config.train.learning_rate * rate
        return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def compare(days: Days, number: int, seeds: int, rates: list[float]) -> dict[str, Any]:
    """All runs: figures by day, arm and seed, and the rate that was chosen."""
    first, tried = days.run(1, 0), {}
    for rate in rates:
        tried[rate] = days.figures(days.run(2, 0, first, rate))["validation"]
    chosen = max(tried, key=tried.__getitem__)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        before = None
        for day in range(1, number + 1):
            anew = days.run(day, seed)
            found.setdefault(f"day {day}, from scratch", []).append(days.figures(anew))
            if before is not None:
                before = days.run(day, seed, before, chosen)
                found.setdefault(f"day {day}, continued", []).append(days.figures(before))
            else:
                before = anew
    return {"validation by rate": tried, "rate": chosen, "runs": found}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--step", type=int, default=7, help="days of the log between two models")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.05, 0.2, 0.5, 1.0])
    parser.add_argument("--work-dir", type=Path, default=Path("runs/daily"))
    parser.add_argument("--out", type=Path, help="also write the figures here, as JSON")
    given = parser.parse_args()
    days = Days(given.config, given.work_dir, given.days, given.step)
    result = compare(days, given.days, given.seeds, given.rates)
    if given.out:
        document = {"libraries": library_versions(), "step_days": given.step, **result}
        write_text_atomically(given.out, json.dumps(document, indent=1) + "\n")
    table = Table("", *GROUPS, "examples", "seconds")
    for arm, runs in sorted(result["runs"].items()):
        cells = []
        for group in GROUPS:
            values = [run[group] for run in runs]
            spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.4f}{spread}")
        table.add_row(
            arm,
            *cells,
            f"{mean(run['examples'] for run in runs):,.0f}",
            f"{mean(run['seconds'] for run in runs):.1f}",
        )
    Console(width=120).print(table, f"rate of a continuation: {result['rate']:g} times")


if __name__ == "__main__":
    main()
