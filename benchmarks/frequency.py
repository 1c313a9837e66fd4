"""The simulation of Yi et al. (RecSys 2019): do the estimates converge, and again after a change?

    python -m benchmarks.frequency            # three seeds, about a minute; writes docs/results/frequency.*
    python -m benchmarks.frequency --cost     # milliseconds of an update and a lookup, by number of buckets

1,000 items, q_i proportional to i^2 and, from step 10,000 on, to (999 - i)^2; batches of 128; the same 5,000 buckets
in all for m = 1, 2 and 4 hashes. Error: sum_i |1 / B_i - p_i| / (2 * 128) with p_i = 128 q_i. That is the probability
that a batch holds item i where the items of a batch are distinct, so batches are drawn that way (systematic sampling).
Apart from that, m = 4 on batches drawn *with* replacement, as from a log: the same error there, and that of 128 q_i
from the exact inversion. "No collisions" has 10^6 buckets: what the learning rate and the change alone leave.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.base.artifacts import write_text_atomically
from trainer.base.keras2 import tf
from trainer.negatives.frequency import FrequencyEstimator

ITEMS, BATCH, BUCKETS, CHANGE, END = 1_000, 128, 5_000, 10_000, 20_000
HASHES = (1, 2, 4)
EVERY = 100
"""Steps between two measurements; an error "before" or "after" is the mean of the last 10."""
FREE = "no collisions"
DIVIDED, INVERTED = "m=4, drawn with replacement", "the same, inverted exactly"


def distinct(generator: Any, expected: Any) -> Any:
    """128 distinct items, i with probability `expected[i]` exactly: a comb of step 1 on their sum, in random order."""
    order = tf.argsort(generator.uniform([ITEMS]))
    comb = generator.uniform([], dtype=tf.float64) + tf.range(BATCH, dtype=tf.float64)
    # The sum may end a rounding below 128, where the last tooth would find nothing.
    places = tf.searchsorted(tf.cumsum(tf.gather(expected, order)), comb, side="right")
    return tf.gather(order, tf.minimum(places, ITEMS - 1))


def replaced(generator: Any, expected: Any) -> Any:
    """128 independent draws."""
    uniform = generator.uniform([BATCH], maxval=BATCH, dtype=tf.float64)
    return tf.minimum(tf.searchsorted(tf.cumsum(expected), uniform, side="right"), ITEMS - 1)


def simulate(
    estimators: dict[str, FrequencyEstimator],
    draw: Callable[[Any, Any], Any],
    read: dict[str, Callable[[Any], Any]],
    seed: int,
) -> dict[str, list[float]]:
    """Errors of each way to read an estimate, every `EVERY` steps."""
    generator = tf.random.Generator.from_seed(seed)
    first_row = 1 + seed * ITEMS  # other rows hash elsewhere
    rows = first_row + tf.range(ITEMS)

    @tf.function
    def advance(before: Any, expected: Any) -> list[Any]:
        for step in tf.range(before + 1, before + 1 + EVERY):
            batch = first_row + draw(generator, expected)
            for estimator in estimators.values():
                estimator.update(batch, step)
        return [count(rows) for count in read.values()]

    errors: dict[str, list[float]] = {name: [] for name in read}
    places = np.arange(ITEMS, dtype=np.float64)
    for before in range(0, END, EVERY):
        weights = (places if before < CHANGE else ITEMS - 1 - places) ** 2
        expected = BATCH * weights / weights.sum()
        found = advance(tf.constant(before, tf.int64), tf.constant(expected))
        for name, estimate in zip(read, found, strict=True):
            errors[name].append(float(np.abs(estimate.numpy() - expected).sum() / (2 * BATCH)))
    return errors


def of_seed(seed: int, learning_rate: float) -> dict[str, list[float]]:
    """All errors of one seed."""

    def estimator(buckets: int, hashes: int) -> FrequencyEstimator:
        return FrequencyEstimator(buckets, hashes, learning_rate, initial_interval=100)

    several = {f"m={m}": estimator(BUCKETS // m, m) for m in HASHES} | {FREE: estimator(10**6, 1)}

    def probability(one: FrequencyEstimator) -> Callable[[Any], Any]:
        return lambda rows: tf.exp(one.log_probability(rows))

    read = {name: probability(one) for name, one in several.items()}
    errors = simulate(several, distinct, read, seed)
    one = estimator(BUCKETS // 4, 4)
    read = {
        DIVIDED: lambda rows: BATCH * tf.exp(one.log_probability(rows, BATCH)),
        INVERTED: lambda rows: BATCH * tf.exp(one.log_probability(rows, BATCH, exact=True)),
    }
    return errors | simulate({"m=4": one}, replaced, read, seed)


def summarise(runs: list[dict[str, list[float]]]) -> dict[str, dict[str, Any]]:
    """Each reading's errors over the seeds: before the change, at its worst after it, at the end."""
    cells = {}
    for name in runs[0]:
        curves, change = np.array([run[name] for run in runs]), CHANGE // EVERY
        before, after = curves[:, change - 10 : change], curves[:, -10:]
        cells[name] = {
            "before": round(float(before.mean()), 4),
            "peak": round(float(curves[:, change:].max(1).mean()), 4),
            "after": round(float(after.mean()), 4),
            "before_by_seed": before.mean(1).round(4).tolist(),
            "after_by_seed": after.mean(1).round(4).tolist(),
            "curve": curves.mean(0).round(4).tolist(),
        }
    return cells


def broken_claims(cells: dict[str, dict[str, Any]]) -> list[str]:
    """What of the paper's claims does not hold, in words."""
    broken = []
    for when in ("before", "after"):
        errors = [cells[f"m={m}"][when] for m in HASHES]
        if errors != sorted(errors, reverse=True) or len(set(errors)) < len(errors):
            broken.append(f"{when} the change the error does not fall with m: {errors}")
    for m in HASHES:
        cell = cells[f"m={m}"]
        if not cell["after"] < cell["peak"] / 4:
            broken.append(f"m={m} is not within a quarter of its peak {cell['peak']} at the end")
    return broken


def plot(cells: dict[str, dict[str, Any]], learning_rate: float) -> str:
    """The error over the steps, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "frequency"}):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        panel = figure.subplots()
        steps = np.arange(EVERY, END + 1, EVERY)
        styles = dict(zip(cells, ("C0-", "C1-", "C2-", "k:", "C2--", "C4--"), strict=True))
        for name, cell in cells.items():
            panel.plot(steps, cell["curve"], styles[name], label=name, linewidth=1.4)
        panel.axvline(CHANGE, color="0.6", linewidth=0.8)
        panel.set(xlabel="step (batches of 128)", ylabel="error, 0 to 1", yscale="log")
        panel.set_title(f"{BUCKETS:,} buckets in all, learning rate {learning_rate:g}")
        panel.set_yticks(ticks := [0.03, 0.05, 0.1, 0.2, 0.5], [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n"


def cost(buckets: int, hashes: int = 4, batch_size: int = 1_024, steps: int = 200) -> list[float]:
    """Milliseconds a step of each execution.

    The batches hold the same 10,000 items whatever the number of buckets. Over 1,000 times the buckets a step takes
    about 2.5 times as long all the same: fewer places share a line of the processor's cache.
    """
    rng = np.random.default_rng(0)
    popularity = 1 / (np.arange(10_000) + 60.0) ** 0.95
    drawn = rng.choice(10_000, (steps, batch_size), p=popularity / popularity.sum())
    rows = tf.constant(rng.integers(0, 10**8, 10_000)[drawn])
    estimator = FrequencyEstimator(buckets, hashes)

    @tf.function
    def execute(first: Any) -> Any:
        total = tf.constant(0.0)
        for i in tf.range(steps, dtype=tf.int64):
            estimator.update(rows[i], first + i)
            total += tf.reduce_sum(estimator.log_probability(rows[i], batch_size))
        return total

    times = []
    for execution in range(8):
        first = tf.constant(1 + execution * steps, tf.int64)
        started = time.perf_counter()
        execute(first).numpy()
        times.append((time.perf_counter() - started) / steps * 1e3)
    return times[1:]


def main() -> int:
    """Prints the errors, or the costs; 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--seeds", type=int, default=3, help="of draws and hashing")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--cost", action="store_true")
    given = parser.parse_args()
    if given.cost:
        for buckets in (10**4, 10**5, 10**6, 10**7):
            times = cost(buckets)
            print(
                f"batch 1,024, 4 hashes of {buckets:>10,} buckets: best {min(times):.3f}, "
                f"median {np.median(times):.3f} ms a step"
            )
        return 0
    cells = summarise([of_seed(seed, given.learning_rate) for seed in range(given.seeds)])
    settings = {"learning_rate": given.learning_rate, "seeds": given.seeds, "every": EVERY}
    document = {"settings": settings, "errors": cells}
    write_text_atomically(given.out / "frequency.json", json.dumps(document) + "\n")
    write_text_atomically(given.out / "frequency.svg", plot(cells, given.learning_rate))
    broken = broken_claims(cells)
    for claim in broken:
        print("does not hold:", claim)
    shown = [f"{name} {cell['before']:.4f} / {cell['after']:.4f}" for name, cell in cells.items()]
    print("error before / after the change:", "; ".join(shown))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
