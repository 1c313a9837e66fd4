"""From a candidate to the version that a label names, through the gates; and back."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.config import Paths, RunConfig
from pipelines.rollout import final_fit
from pipelines.rollout.baseline import comparing, measured_again
from pipelines.rollout.final_fit import FINAL_FIT
from pipelines.rollout.gates import Check, Evidence, Reference, check, failed_checks, is_blessed
from pipelines.rollout.page import record_checks, write_page
from pipelines.rollout.references import BLESSING, best_blessed, blessed_versions, references
from preprocessing.base.artifacts import fingerprint, write_text_atomically
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.progress import Stages
from serving.export.folder import read_labels, version_paths, withdrawn_versions
from serving.export.labels import move_label, withdraw
from serving.export.publish import exclusive, publish, staging
from serving.export.run import ASSETS, read_description
from trainer.evaluate import METRICS
from trainer.evaluation.per_query import PER_QUERY, of_gates, read_per_query, write_per_query
from trainer.loop.continuation import Previous


def roll_out(
    config: RunConfig, paths: Paths, version: Path, metrics: dict[str, Any], console: Console
) -> Path:
    """Judge a version; if it passes, move it among the served ones and the label to it.

    A kill at any point leaves the label where it was or at the new, whole version; the next call
    finishes what is left.

    Args:
      config: `gates`, `rollout` and what an evaluation reads.
      paths: of the run.
      version: a candidate, or a version that was exported straight to `paths.export`.
      metrics: its metrics.json.
      console: for the checks.

    Returns:
      The folder of the version among the served ones.

    Raises:
      LongtailFailure: a gate refused it; nothing was moved.
      LongtailError: the blessed model cannot be compared.
    """
    label, blessed = config.rollout.label, _label(paths, config.rollout.label)
    judged, record = _judged(config, metrics, blessed), _blessing(version)
    is_served = version.parent == paths.export
    # A version that the label named or passed by was judged then.
    is_settled = is_served and _is_settled(paths, int(version.name), blessed)
    if not record or (not is_settled and record.get("judged") != judged):
        (version / ASSETS / BLESSING).unlink(missing_ok=True)
        checks = _judge(config, paths, version, metrics, Stages(console))
        _print(checks, console)
        record_checks(paths, metrics, checks)
        write_page(paths, metrics, version)
        if not is_blessed(checks):
            stays = f"label {label} stays at {blessed}" if blessed else "nothing is served"
            reasons = "; ".join(str(each) for each in failed_checks(checks))
            raise LongtailFailure(
                f"not blessed: {reasons}; {stays}; the candidate is in {version}, its report in "
                f"{paths.evaluation}: look for the cause there, or change gates"
            )
        _bless(paths, version, metrics, checks, judged)
    if not is_served:
        recall = config.gates.min_index_recall
        fitted = final_fit.fitted(config, paths, version, console, min_index_recall=recall)
        version = _publish(paths, fitted, label, blessed, console)
        write_page(paths, metrics, version)
        return version
    with exclusive(paths.export):
        if not is_settled:
            _require_unmoved(paths, label, blessed)
        _move_label(paths, label, int(version.name), console)
    return version


def _is_settled(paths: Paths, number: int, blessed: int | None) -> bool:
    return number in withdrawn_versions(paths.export) or (blessed is not None and number <= blessed)


def _require_unmoved(paths: Paths, label: str, judged_against: int | None) -> None:
    now = _label(paths, label)
    if now != judged_against:
        raise LongtailFailure(
            f"{paths.export}: label {label} moved from {judged_against or 'no version'} to {now or 'no version'} "
            f"while a candidate was compared with {judged_against or 'none'}: another run shares this "
            "rollout.export_dir; nothing was published, run again to compare with the version of today"
        )


def _move_label(paths: Paths, label: str, number: int, console: Console) -> None:
    blessed = _label(paths, label)  # others may have moved it since
    if number in withdrawn_versions(paths.export):
        console.print(
            f"  version {number} was rolled back: label {label} stays at {blessed} "
            f"(longtail rollback CONFIG --to {number} takes it back)",
            highlight=False,
        )
    elif blessed is None or number > blessed:
        move_label(paths.export, label, number)
        console.print(f"  label {label}: {blessed or 'none'} -> {number}", highlight=False)
    else:
        console.print(f"  rollout is current: label {label} at {blessed}", highlight=False)


def roll_back(config: RunConfig, paths: Paths, console: Console, to: int | None = None) -> int:
    """Move the label to the blessed version before, or to a given one.

    Args:
      config: `rollout.label`.
      paths: of any run with the same `rollout.export_dir`.
      console: told what moved.
      to: a blessed version, also a later one; the one that the label leaves for an earlier one is
        withdrawn: no later rollback goes to it, and no server prefers it for its number.

    Returns:
      The version that the label names now.

    Raises:
      LongtailError: there is no label yet, or no such version.
    """
    with exclusive(paths.export) if paths.export.is_dir() else contextlib.nullcontext():
        return _roll_back(config, paths, console, to)


def _roll_back(config: RunConfig, paths: Paths, console: Console, to: int | None) -> int:
    label, current = config.rollout.label, _label(paths, config.rollout.label)
    if current is None:
        raise LongtailError(
            f"{paths.export}/labels.json: label {label} is missing, since nothing was rolled out yet: "
            "longtail run CONFIG"
        )
    blessed = set(blessed_versions(paths.export))
    earlier = {v for v in blessed - withdrawn_versions(paths.export) if v < current}
    target = to if to is not None else max(earlier, default=None)
    if target is None or target not in blessed:
        raise LongtailError(
            f"expected {'an earlier blessed version' if to is None else f'blessed version {to}'} in "
            f"{paths.export} to roll back to, received {sorted(blessed)} with label {label} at "
            f"{current}; versions are blessed by longtail run CONFIG"
        )
    if target < current:
        withdraw(paths.export, current)
    move_label(paths.export, label, target)
    console.print(f"  label {label}: {current} -> {target}", highlight=False)
    return target


def is_made_of(version: Path, fingerprint: str) -> bool:
    """Whether a version was made of the same, or fitted from it; no version is not."""
    said = read_description(version)
    return fingerprint in (said.get("fingerprint"), said.get(FINAL_FIT, {}).get("fingerprint"))


def served_version(folder: Path, fingerprint: str) -> Path | None:
    """The newest version in a folder of versions that was made of the same, or fitted from it."""
    newest_first = sorted(version_paths(folder).items(), reverse=True)
    paths = (Path(path) for _, path in newest_first)
    return next((path for path in paths if is_made_of(path, fingerprint)), None)


def _label(paths: Paths, label: str) -> int | None:
    return read_labels(str(paths.export)).get(label)


def _judge(
    config: RunConfig, paths: Paths, version: Path, metrics: dict[str, Any], stages: Stages
) -> list[Check]:
    gates, number = config.gates, _label(paths, config.rollout.label)
    found: list[Reference] = []
    if number is not None and gates.drops():
        serving = Path(version_paths(paths.export)[number])

        def measure(blessed: Path) -> Evidence:
            return _measured(config, paths, metrics, blessed, stages)

        found = references(
            serving,
            best_blessed(paths.export, gates, gates.k or metrics["ks"][-1]),
            measure=measure,
            name=lambda path: f"version {path.name}",
            tell=lambda what: stages.console.print(f"  {what}", highlight=False),
        )
    candidate = Evidence(metrics, read_per_query(paths.evaluation / PER_QUERY))
    return check(candidate, found, read_description(version)["index"], gates)


def _measured(
    config: RunConfig, paths: Paths, metrics: dict[str, Any], blessed: Path, stages: Stages
) -> Evidence:
    """A blessed version on the candidate's data.

    Measured on other data, it is measured again: its rows are carried over to today's vocabularies,
    as for a training that goes on from it.
    """
    with comparing(f"version {blessed.name}"):
        record = json.loads((blessed / ASSETS / BLESSING).read_text())
        measured: dict[str, Any] = json.loads((blessed / ASSETS / METRICS).read_text())
        data = (metrics["made"]["data_fingerprint"], metrics["ks"], metrics["buckets"])
        same = (measured["made"]["data_fingerprint"], measured["ks"], measured["buckets"]) == data
        if same and (blessed / ASSETS / PER_QUERY).is_file():
            return Evidence(measured, read_per_query(blessed / ASSETS / PER_QUERY))
        previous = Previous.open(Path(record["work_dir"]))
        if previous.fingerprint != final_fit.evaluated_model(blessed):
            raise LongtailError(f"{record['work_dir']} was trained anew since")
        return measured_again(config, paths.data, previous, measured["made"]["config"], stages)


def _judged(config: RunConfig, metrics: dict[str, Any], blessed: int | None) -> str:
    """What a blessing holds for: these gates, this evaluation, and this version in service."""
    return fingerprint(config.gates.model_dump(), metrics["made"]["fingerprint"], blessed)


def _blessing(version: Path) -> dict[str, Any]:
    """The record of a blessed version, {} of any other."""
    path = version / ASSETS / BLESSING
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return record


def _bless(
    paths: Paths, version: Path, metrics: dict[str, Any], checks: list[Check], judged: str
) -> None:
    """Leave the proof beside the version, its presence last."""
    record = {
        "at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "work_dir": str(paths.work_dir),
        "judged": judged,
        "checks": [each.as_json() for each in checks],
    }
    by_query = read_per_query(paths.evaluation / PER_QUERY)
    write_per_query(version / ASSETS / PER_QUERY, of_gates(by_query))
    write_text_atomically(version / ASSETS / METRICS, json.dumps(metrics) + "\n")
    write_text_atomically(version / ASSETS / BLESSING, json.dumps(record, indent=2) + "\n")


def _publish(
    paths: Paths, candidate: Path, label: str, judged_against: int | None, console: Console
) -> Path:
    """Move a blessed candidate among the served versions, under the next number, and the label to it."""
    with staging(paths.export) as out:
        shutil.copytree(candidate, out, dirs_exist_ok=True)
        with exclusive(paths.export):
            _require_unmoved(paths, label, judged_against)
            target = publish(out, paths.export)
            _move_label(paths, label, int(target.name), console)
    final_fit.forget(paths)
    return target


def _print(checks: list[Check], console: Console) -> None:
    for each in checks:
        mark = "[green]✓[/green]" if each.passed else "[red]✗[/red]"
        console.print(f"  {mark} {each}", highlight=False)
