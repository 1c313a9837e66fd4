"""report.html with what the evaluation itself knows nothing of: index, oddities of the data, gates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.config import Paths
from pipelines.rollout.final_fit import FINAL_FIT
from pipelines.rollout.gates import Check
from preprocessing.base.artifacts import write_text_atomically
from serving.export.run import read_description
from trainer.data.data_checks import ANOMALIES
from trainer.evaluate import REPORT
from trainer.evaluation.report.page import read_plots, render_html

GATES = "gates.json"
"""In the evaluation: the checks of the last judgement, passed or not, and of which evaluation."""


def record_checks(paths: Paths, metrics: dict[str, Any], checks: list[Check]) -> None:
    """Writes gates.json."""
    found = {
        "evaluation": metrics["made"]["fingerprint"],
        "checks": [each.as_json() for each in checks],
    }
    write_text_atomically(paths.evaluation / GATES, json.dumps(found, indent=2) + "\n")


def write_page(paths: Paths, metrics: dict[str, Any], version: Path | None) -> None:
    """Renders the report anew, with everything that is known of the run by now.

    Args:
      paths: of the run.
      metrics: of its evaluation.
      version: the export whose index is named, None where there is none.
    """
    description = read_description(version) if version else {}
    page = render_html(
        metrics,
        description.get("index"),
        anomalies=_read(paths.statistics / ANOMALIES),
        checks=_checks(paths, metrics),
        served=description.get(FINAL_FIT),
        drawn=read_plots(paths.evaluation),
    )
    write_text_atomically(paths.evaluation / REPORT, page)


def _checks(paths: Paths, metrics: dict[str, Any]) -> Any:
    """Those of this very evaluation: the file may be of the one before."""
    judged = _read(paths.evaluation / GATES)
    mine = judged and judged["evaluation"] == metrics["made"]["fingerprint"]
    return judged["checks"] if mine else None


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None
