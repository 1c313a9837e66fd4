"""`longtail pipeline run` on the shop, and what it leaves."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from pipelines.cli import main
from serving.export.folder import read_labels
from serving.export.run import newest_version
from tests.e2e import shop
from trainer.base.keras2 import tf

# A feature of each shape: TF-Transform takes seconds for each more.
KEPT = ("customer", "channel", "bought", "sku", "tags")
_ROOT = Path(__file__).parents[2]
_FEATURES = [f for f in shop.documented_config(_ROOT)["features"] if f["name"] in KEPT]
QUICK = (
    f"features={json.dumps(_FEATURES)}",
    "train.max_epochs=2",
    "train.final_fit=continue",
    "evaluate.baselines=[popularity]",
    "gates.k=10",
)


class Ended(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


def words(config: Path, work_dir: Path, *overrides: str) -> list[str]:
    settings = (f"work_dir={work_dir}", *QUICK, *overrides)
    return ["pipeline", "run", str(config), *(w for s in settings for w in ("--set", s))]


def run(config: Path, work_dir: Path, *overrides: str, runner: str = "local") -> Ended:
    """Within this process, where TFX is imported once."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*words(config, work_dir, *overrides), "--runner", runner])
    return Ended(code, out.getvalue(), err.getvalue())


def artifact(work_dir: Path, node: str, name: str) -> Path:
    """The newest artifact of a component."""
    found = [path for path in (work_dir / "tfx" / node / name).iterdir() if path.is_dir()]
    return max(found, key=lambda path: int(path.name))


def results(work_dir: Path) -> dict[str, Any]:
    """What a run comes to: the newest artifacts of every component, and what is served."""
    graph = artifact(work_dir, "Preprocessing", "transform_graph")
    table = artifact(work_dir, "Preprocessing", "item_table")
    metrics = json.loads(
        (artifact(work_dir, "RecallEvaluation", "evaluation") / "metrics.json").read_text()
    )
    served = newest_version(work_dir / "export" / "shop")
    assert served is not None
    return {
        "data": json.loads((table / "manifest.json").read_text())["fingerprint"],
        "items": pq.read_table(table / "items" / "items.parquet").to_pylist(),
        "vocabularies": {
            path.name: path.read_bytes() for path in (graph / "transform_fn" / "assets").iterdir()
        },
        "examples": [
            sum(1 for _ in tf.data.TFRecordDataset([str(file) for file in sorted(split.iterdir())]))
            for split in sorted(artifact(work_dir, "Preprocessing", "examples").iterdir())
        ],
        "schema": (artifact(work_dir, "SchemaGen", "schema") / "schema.pbtxt").read_text(),
        "model": metrics["made"]["fingerprint"],
        "figures": metrics["splits"]["test"]["rankers"]["model"],
        "checks": (artifact(work_dir, "RecallGate", "blessing") / "checks.json").read_text(),
        "weights": next((served / "variables").glob("*.data-*")).read_bytes(),
        "label": read_labels(str(served.parent)) == {"stable": int(served.name)},
        "left": [p.name for p in served.parent.iterdir() if p.name.startswith(".")],
    }
