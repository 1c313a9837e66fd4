"""The README's table: the model over several seeds beside its baselines, with paired differences and their errors.

    python -m benchmarks.results configs/complete_journey.yaml [--seeds 3] [--set prior.beta=-0.25] [--out FILE.json]

Preprocesses once, trains a model for each seed, evaluates each on test; the baselines are tuned and ranked once, with
the first seed. Finished parts are found again in `--work-dir`. Prints Markdown: recall of new items by bucket (± of the
model: deviation over seeds; of baselines: standard error over users), then the model less each baseline, user by user
(the model's recall of a user is the mean over the seeds). Bold is only who leads every other ranker by more than two
standard errors of that difference.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from rich.console import Console

from pipelines import config as configuration
from pipelines import datasets
from preprocessing.base.artifacts import library_versions, write_text_atomically
from preprocessing.run import preprocess
from trainer.evaluate import evaluate
from trainer.evaluation.buckets import BUCKETS
from trainer.evaluation.per_query import KNOWN, PER_QUERY, Key, PerQuery, read_per_query
from trainer.evaluation.protocol import clearly_best, paired_difference, plain, standard_error
from trainer.evaluation.report.plots import LABELS, RANKERS
from trainer.evaluation.report.tables import formatted, signed
from trainer.task import train

GROUPS = {"overall": KNOWN, **{name: (name,) for name in BUCKETS[:3]}}
Json = dict[str, Any]


def measured(path: Path, overrides: list[str], seeds: list[int], root: Path) -> list[Path]:
    """The evaluations of all seeds, made where they are not finished."""
    config, _ = configuration.load(path, overrides)
    datasets.fetch(config.data)
    preprocess(config, root / "data")
    found = []
    for number, seed in enumerate(seeds):
        alone = ["evaluate.baselines=[]"] if number else []
        one, _ = configuration.load(path, [*overrides, *alone, f"seed={seed}"])
        model, out = root / f"model-{seed}", root / f"evaluation-{seed}"
        train(one, root / "data", model, console=Console())
        evaluate(one, root / "data", model, out, command="python -m benchmarks.results")
        found.append(out)
    return found


def compared(evaluations: list[Path], mode: str, k: int) -> Json:
    """Figures, spreads and paired differences by ranker and group.

    Args:
      evaluations: of the seeds; the baselines are those of the first.
      mode: `new` or `all`.
      k: length of the list.
    """
    read = [read_per_query(each / PER_QUERY) for each in evaluations]
    models = [each[Key("test", mode, "model")] for each in read]
    for each in models[1:]:
        if each.users.tolist() != models[0].users.tolist():
            raise SystemExit("expected the same users in every evaluation; remove --work-dir")
    others: dict[str, PerQuery] = {
        name: read[0][Key("test", mode, name)]
        for name in RANKERS[1:]
        if Key("test", mode, name) in read[0]
    }
    found: Json = {"rankers": {}, "model_minus": {}, "clearly_best": {}}
    for group, buckets in GROUPS.items():
        seeds = [each.recall(buckets, k) for each in models]
        recall = {"model": np.mean(seeds, axis=0)}
        recall.update({name: each.recall(buckets, k) for name, each in others.items()})
        means = [float(np.nanmean(one)) for one in seeds]
        for name, values in recall.items():
            cell: Json = {"recall": plain(np.nanmean(values)), "se": plain(standard_error(values))}
            if name == "model":
                cell["seeds"] = [round(one, 6) for one in means]
                cell["deviation"] = round(stdev(means), 6) if len(means) > 1 else None
            else:
                difference = paired_difference(recall["model"], values)
                found["model_minus"].setdefault(name, {})[group] = difference
            found["rankers"].setdefault(name, {})[group] = cell
        found["clearly_best"][group] = clearly_best(recall)
    return found


def markdown(found: Json, k: int) -> str:
    """Two tables: figures, then differences."""
    head = f"| recall@{k} | " + " | ".join(GROUPS) + " |\n|" + "---|" * (len(GROUPS) + 1)
    lines = [head]
    for name, groups in found["rankers"].items():
        cells = []
        for group, cell in groups.items():
            error = cell.get("deviation") if name == "model" else cell["se"]
            text = formatted(cell["recall"]) + (f" ± {formatted(error)}" if error else "")
            cells.append(f"**{text}**" if found["clearly_best"][group] == name else text)
        lines.append(f"| {LABELS[name]} | " + " | ".join(cells) + " |")
    lines += ["", head.replace(f"recall@{k}", "model less")]
    for name, groups in found["model_minus"].items():
        cells = [f"{signed(d['difference'])} ± {formatted(d['se'])}" for d in groups.values()]
        lines.append(f"| {LABELS[name]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="the configuration's and those after")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--mode", choices=("new", "all"), default="new")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/results"))
    parser.add_argument("--out", type=Path, help="also write the figures here, as JSON")
    given = parser.parse_args()
    config, _ = configuration.load(given.config, given.set)
    seeds = [config.seed + number for number in range(given.seeds)]
    evaluations = measured(given.config, given.set, seeds, given.work_dir)
    k = config.evaluate.ks[-1]
    found = compared(evaluations, given.mode, k)
    if given.out:
        metrics = json.loads((evaluations[0] / "metrics.json").read_text())
        document = {
            "libraries": library_versions(), "mode": given.mode, "k": k, "seeds": seeds,
            "set": given.set, **found, "tuning": metrics["tuning"], "seconds": metrics["seconds"],
        }  # fmt: skip
        write_text_atomically(given.out, json.dumps(document, indent=1) + "\n")
    print(markdown(found, k), flush=True)
    print(f"\n{mean(cell['users'] for cell in _overall(found)):,.0f} users with a target")


def _overall(found: Json) -> list[Json]:
    return [groups["overall"] for groups in found["model_minus"].values()]


if __name__ == "__main__":
    main()
