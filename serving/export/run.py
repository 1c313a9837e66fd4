"""The export step: a numbered SavedModel for TF Serving. ``python -m serving.export CONFIG``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from preprocessing.base.artifacts import fingerprint, library_versions
from preprocessing.base.config_io import load_config
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.locations import reachable
from preprocessing.base.progress import Stages
from preprocessing.finished import finished_data, finished_model
from serving.config import ServingSections
from serving.export.check import Samples, check_answers, check_recall, measure_index
from serving.export.folder import ASSETS as ASSETS
from serving.export.folder import DESCRIPTION as DESCRIPTION
from serving.export.folder import newest_version as newest_version
from serving.export.folder import read_description as read_description
from serving.export.inputs import item_key
from serving.export.labels import ServedVersions, refresh_models_config, require_ours
from serving.export.publish import exclusive, publish, staging
from serving.export.sample_requests import (
    WARMUP_FILE,
    Query,
    read_items,
    read_queries,
    unknown_query,
    write_warmup,
)
from serving.export.signatures import Parts, RecallModule
from serving.index.interface import Index
from serving.index.registry import INDEXES
from trainer.base.keras2 import tf
from trainer.data.item_table import ItemTable
from trainer.data.vocabulary import open_transform
from trainer.evaluation.queries import evaluation_queries
from trainer.evaluation.retrieval import item_embeddings, query_embeddings
from trainer.loop.build import load_model
from trainer.towers.recall_model import RecallModel

_FORMAT = 2
"""Of the SavedModel and longtail.json; part of the fingerprint."""
_MEASURED_QUERIES = 1_000


def export_fingerprint(
    config: ServingSections, data_fingerprint: str, model_fingerprint: str
) -> str:
    """What the SavedModel depends on: the export's section, the model and the data."""
    return fingerprint(
        _FORMAT,
        config.name,
        config.model_dump(mode="json", include={"export", "prior"}),
        data_fingerprint,
        model_fingerprint,
    )


def export(
    config: ServingSections,
    data_dir: Path,
    model_dir: Path,
    export_dir: Path,
    *,
    console: Console | None = None,
) -> Path:
    """Write the next version, or none where the newest was made of the same.

    The SavedModel is loaded and asked before it appears: its query embeddings have to equal the
    model's on the transformed examples, its item embeddings the rows of the index, its scores the
    products of the two, and ScaNN's recall has to reach ``min_recall``.

    Args:
      config: the sections of serving.
      data_dir: finished preprocessing.
      model_dir: finished training.
      export_dir: the folder of versions that a server watches, ``export/<model>``.
      console: for progress, default: the terminal.

    Returns:
      The folder of the version. What was checked and measured is in its
      ``assets.extra/longtail.json``.

    Raises:
      LongtailError: data or model are missing or do not fit each other; an optional package is
        missing; see `require_ours`.
      LongtailFailure: the checks failed, or the disk is full; no version appeared.
    """
    data_dir, model_dir, export_dir = Path(data_dir), Path(model_dir), Path(export_dir)
    stages = Stages(console)
    data = finished_data(data_dir, config)
    model = finished_model(model_dir, data)
    made_from = {"data": data["fingerprint"], "model": model["fingerprint"]}
    wanted = export_fingerprint(config, made_from["data"], made_from["model"])
    if current := _current(export_dir, wanted):
        stages.console.print(f"  export is current: {current}", highlight=False)
        return current
    if ServedVersions.of(export_dir):
        require_ours(export_dir)  # not only when the work is done
    started = time.perf_counter()
    with staging(export_dir) as out:
        try:
            description = _Export(config, data_dir, model_dir, stages).write(out)
        except tf.errors.OpError as error:
            # TensorFlow writes variables and assets by itself; a full disk is no OSError there.
            raise LongtailFailure(
                f"cannot write {out}: {error.message.splitlines()[0]}; no version appeared"
            ) from error
        description = {
            "format": _FORMAT,
            "fingerprint": wanted,
            "name": config.name,
            "made_from": made_from,
            "made_at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "libraries": library_versions(),
            **description,
            "seconds": round(time.perf_counter() - started, 1),
        }
        (out / ASSETS / DESCRIPTION).write_text(
            json.dumps(description, indent=2, allow_nan=False) + "\n"
        )
        with exclusive(export_dir):
            # Another process may have exported the same meanwhile.
            version = _current(export_dir, wanted) or publish(out, export_dir)
            refresh_models_config(export_dir)
            return version


def _current(export_dir: Path, wanted: str) -> Path | None:
    newest = newest_version(export_dir)
    same = newest and read_description(newest).get("fingerprint") == wanted
    return newest if same else None


class _Export:
    """The stages in order."""

    def __init__(
        self, config: ServingSections, data_dir: Path, model_dir: Path, stages: Stages
    ) -> None:
        self._config, self._data_dir, self._model_dir, self._stages = (
            config,
            data_dir,
            model_dir,
            stages,
        )
        self._features = config.feature_list

    def write(self, out: Path) -> dict[str, Any]:
        """Write and check the SavedModel; returns what longtail.json says of it."""
        config, export = self._config, self._config.export
        index = INDEXES[export.index].make(export)
        with self._stages.stage("embedding items and queries"):
            model = load_model(config, self._data_dir, self._model_dir)
            table = model.item_table
            items = item_embeddings(model, table)
            examples = self._example_embeddings(model)
            queries = read_queries(self._data_dir)[: len(examples)]
        with self._stages.stage(f"building the {export.index} index"):
            index.build(items)
        with self._stages.stage("measuring the index"):
            measured = measure_index(index, items, examples[:_MEASURED_QUERIES], export.k)
            check_recall(measured, export, index)
        with self._stages.stage("writing the SavedModel"):
            warmups = self._save(out, model, table, index, queries)
        with self._stages.stage("asking the SavedModel"):
            samples = Samples(
                queries, examples[: len(queries)], read_items(self._data_dir), table.ids
            )
            answers = check_answers(out, samples, index, self._features, export.k)
        return {
            "items": index.num_items,
            "dim": index.dim,
            "k": export.k,
            "max_k": min(export.max_k, index.num_items),
            "max_batch": export.max_batch,
            "history_length": self._features.history_length,
            "index": {"kind": export.index, **index.figures, **measured},
            "answers": answers,
            "warmup_requests": warmups,
        }

    def _example_embeddings(self, model: RecallModel) -> NDArray[np.float32]:
        """[Q, D] of the transformed examples of which the raw queries are the first."""
        for split in ("validation", "test"):
            found = evaluation_queries(self._data_dir, split)
            if len(found):
                return query_embeddings(model, found.features, self._config.evaluate.batch_users)
        return np.zeros([0, model.dim], np.float32)

    def _save(
        self,
        out: Path,
        model: RecallModel,
        table: ItemTable,
        index: Index,
        queries: Sequence[Query],
    ) -> int:
        """Write the SavedModel and its warm-up requests; returns their number."""
        config = self._config
        parts = Parts(
            features=self._features,
            embed_queries=model.embed_queries,
            embed_items=model.embed_items,
            variables=model.served_variables,
            query_transform=open_transform(self._data_dir, "query").transform_features_layer(),
            item_transform=open_transform(self._data_dir, "item").transform_features_layer(),
            ids=table.ids,
            index=index,
            k=config.export.k,
            max_k=config.export.max_k,
            max_batch=config.export.max_batch,
            preference_dim=model.preference_dim,
            unseen_popularity=model.unseen_popularity,
            key=item_key(config),
        )
        with tempfile.TemporaryDirectory() as scratch:
            module = RecallModule(parts, Path(scratch))
            signatures = module.signatures()
            # Without the namespace, saving refuses an index's own ops as unknown.
            namespaces = list(index.op_namespaces)
            options = tf.saved_model.SaveOptions(namespace_whitelist=namespaces)
            tf.saved_model.save(module, str(out), signatures=signatures, options=options)
        (out / ASSETS).mkdir()
        warmups = [*queries[: config.export.warmup_requests], unknown_query(self._features)]
        return write_warmup(
            out / ASSETS / WARMUP_FILE,
            config.name,
            warmups,
            self._features,
            table.ids[1].decode(),
            signatures,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point for the clouds."""
    parser = argparse.ArgumentParser(prog="python -m serving.export", description=__doc__)
    parser.add_argument("config", help="YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value"
    )
    for name, default in (("data", "data"), ("model", "model"), ("export", "export/NAME")):
        parser.add_argument(f"--{name}-dir", type=Path, help=f"default: WORK_DIR/{default}")
    known = parser.parse_args(arguments)
    try:
        config = load_config(known.config, ServingSections, known.set)
        work = reachable(config.work_dir)
        version = export(
            config,
            known.data_dir or work / "data",
            known.model_dir or work / "model",
            known.export_dir or work / "export" / config.name,
        )
    except LongtailError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(os.fspath(version))
    return 0
