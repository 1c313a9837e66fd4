"""Statistics, schema and anomalies of the examples, by TensorFlow Data Validation.

The schema is that of the training examples. Validation and test are held against it and against the
distribution of train; train itself against the schema and the statistics of an earlier run.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from preprocessing.base.artifacts import (
    fingerprint,
    is_current,
    read_manifest,
    whole_directory,
    write_manifest,
)
from preprocessing.base.optional import require
from preprocessing.base.progress import Stages
from preprocessing.finished import finished_data
from trainer.config.sections import DataChecksConfig, TrainerSections
from trainer.data.readable_examples import UNKNOWN, sample

SCHEMA, ANOMALIES, STATISTICS = "schema.pbtxt", "anomalies.json", "{}.pbtxt"
SPLITS = ("train", "validation", "test")
_PACKAGE = "tensorflow_data_validation"
_FORMAT = 1
_OF_TRAIN = {"reward", "history length"}
"""Not compared between splits: a query has no reward, and histories are longer at the end of a log."""
_EMPTY = "the feature is empty everywhere: its source broke, or its column was renamed"
_MEANING = {
    "UNEXPECTED_STRING_VALUES": "values that training does not know: they share the hashed buckets, "
    "about which the model knows little; check the source, or preprocess again with newer events",
    "L_INFTY": "the values are distributed otherwise: a source changed its meaning, or the times "
    "differ (a season, a new user group); the model was trained for the old mix",
    "JENSEN_SHANNON": "the numbers are distributed otherwise: check units and defaults of the source",
    "FRACTION_PRESENT": "the feature is missing more often than it was: check its join or its source",
    "NOT_PRESENT": _EMPTY,
    "MISSING_COLUMN": _EMPTY,
    "NO_VALUES": _EMPTY,
    "NEW_COLUMN": "a feature that the earlier run did not have",
    "LOW_NUMBER": "the feature is empty in some examples and never was: its join or source lost values",
    "DATA_TYPE": "another type than in the earlier run: the column changed its format",
}


def check_data(
    config: TrainerSections,
    data_dir: Path,
    output_dir: Path,
    earlier_dir: Path | None = None,
    stages: Stages | None = None,
) -> list[dict[str, str]]:
    """Writes statistics, schema and anomalies; reads them where they are current.

    Args:
      config: `data_checks` and the feature list.
      data_dir: finished preprocessing.
      output_dir: replaced as a whole.
      earlier_dir: the output of an earlier run, whose schema and statistics train is held against.
      stages: shows progress.

    Returns:
      Anomalies: `split`, `feature`, `found` (in TFDV's words) and `means` (in plain ones). Empty
      where `data_checks.enabled` is off, or not set and the extra `tfx` not installed.

    Raises:
      LongtailError: data are missing, or checks are asked for and the extra is not installed.
    """
    stages, settings = stages or Stages(), config.data_checks
    if settings.enabled is False or (settings.enabled is None and find_spec(_PACKAGE) is None):
        return []
    manifest = finished_data(data_dir, config)
    has_earlier = earlier_dir is not None and (earlier_dir / SCHEMA).is_file()
    earlier = read_manifest(earlier_dir) if earlier_dir is not None and has_earlier else None
    wanted = fingerprint(
        _FORMAT, settings.model_dump(), manifest["fingerprint"], (earlier or {}).get("fingerprint")
    )
    if not is_current(output_dir, wanted):
        with stages.stage("checking the examples"), whole_directory(output_dir) as out:
            found = _write(config, data_dir, out, earlier_dir if has_earlier else None)
            write_manifest(out, wanted, {"step": "data checks", "anomalies": len(found)})
    loaded: list[dict[str, str]] = json.loads((output_dir / ANOMALIES).read_text())
    return loaded


def _write(
    config: TrainerSections, data_dir: Path, out: Path, earlier_dir: Path | None
) -> list[dict[str, str]]:
    tfdv = require(_PACKAGE, "tfx")
    settings, statistics = config.data_checks, {}
    for split in SPLITS:
        batch = sample(config, data_dir, split, settings.max_examples)
        if batch.num_rows:
            statistics[split] = _statistics(batch)
            tfdv.write_stats_text(statistics[split], str(out / STATISTICS.format(split)))
    schema = _with_limits(
        tfdv.infer_schema(statistics["train"], infer_feature_shape=False), settings
    )
    tfdv.write_schema_text(schema, str(out / SCHEMA))
    found = []
    for split in [each for each in SPLITS[1:] if each in statistics]:
        anomalies = tfdv.validate_statistics(
            statistics[split], schema, previous_statistics=statistics["train"]
        )
        explained = _explained(anomalies, f"{split} against train")
        found += [each for each in explained if each["feature"] not in _OF_TRAIN]
    if earlier_dir is not None:
        before = tfdv.load_schema_text(str(earlier_dir / SCHEMA))
        then = tfdv.load_stats_text(str(earlier_dir / STATISTICS.format("train")))
        anomalies = tfdv.validate_statistics(statistics["train"], before, previous_statistics=then)
        found += _explained(anomalies, "train against the earlier run")
    (out / ANOMALIES).write_text(json.dumps(found, indent=1) + "\n")
    return found


def _statistics(batch: pa.RecordBatch) -> Any:
    from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory
    from tensorflow_data_validation.statistics.stats_options import StatsOptions

    return generate_statistics_in_memory(batch, StatsOptions(num_top_values=50))


def _with_limits(schema: Any, settings: DataChecksConfig) -> Any:
    """The inferred schema, tolerant of what sampling and time do."""
    for feature in schema.feature:
        if feature.HasField("presence"):
            # As often as it was there, less the tolerance.
            share = feature.presence.min_fraction
            feature.presence.min_fraction = max(0.0, share - settings.max_drift)
        if feature.type == 1:  # BYTES
            if feature.HasField("domain"):  # of few values
                feature.distribution_constraints.min_domain_mass = 1 - settings.max_unknown
            feature.drift_comparator.infinity_norm.threshold = settings.max_drift
        else:
            feature.drift_comparator.jensen_shannon_divergence.threshold = settings.max_drift
    for domain in schema.string_domain:
        # Unknown values are a value of their own only here: to the model they are a finding.
        known = [value for value in domain.value if value != UNKNOWN]
        del domain.value[:]
        domain.value.extend(known)
    return schema


def _explained(anomalies: Any, split: str) -> list[dict[str, str]]:
    """One entry a reason, in the order of the features' names."""
    found = []
    for name, info in sorted(anomalies.anomaly_info.items()):
        for reason in info.reason:
            kind = info.DESCRIPTOR.enum_types_by_name["Type"].values_by_number[reason.type].name
            means = next((text for part, text in _MEANING.items() if part in kind), kind.lower())
            entry = {"feature": name.strip("'"), "split": split}
            found.append({**entry, "found": " ".join(reason.description.split()), "means": means})
    return found
