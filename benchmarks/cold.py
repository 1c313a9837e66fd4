"""What users and items that training never saw are recommended, by the rate at which keys are read as unknown.

    python -m benchmarks.cold configs/complete_journey.yaml [--rates 0 0.01 0.05 0.2] [--seeds 42 43 44] [--out FILE]

A tenth of the users and a tenth of the items, by a hash of their keys, are taken out of training altogether: no
example has them, no history and no count holds the items, and their ids are read as unknown, as after preprocessing
without them. Validation and test stay as they are. Finished trainings are found again in `--work-dir`.
"""

from __future__ import annotations

import argparse
import json
import zlib
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from pipelines import config as configuration
from preprocessing.base.artifacts import (
    fingerprint,
    library_versions,
    whole_directory,
    write_manifest,
    write_text_atomically,
)
from preprocessing.features import Feature, Kind
from preprocessing.finished import finished_data
from preprocessing.run import preprocess
from preprocessing.sources.tfrecord_reader import write_examples
from trainer.config.sections import TrainerSections
from trainer.data.examples_io import example_files
from trainer.data.item_table import ItemTable
from trainer.data.vocabulary import open_transform, table_sizes
from trainer.evaluate import SPLITS, read_split
from trainer.evaluation.retrieval import item_embeddings, query_embeddings, top_items
from trainer.functional.metrics import Targets, hits, mean_over_users, recall_at_k
from trainer.loop.build import load_model
from trainer.task import train

ONE_OF = 10
Figures = dict[str, float]


def held_out(key: bytes) -> bool:
    """Whether a user or an item is cold."""
    return zlib.crc32(b"cold:" + key) % ONE_OF == 0


class Cold:
    """The data without some users and items."""

    def __init__(self, config: TrainerSections, data_dir: Path, root: Path) -> None:
        self._config, self._whole, self.data_dir = config, data_dir, root / "data"
        self._sizes = table_sizes(data_dir, config.feature_list)
        self._user, self._item = (self._id(side) for side in ("query_columns", "item_columns"))
        keys = ItemTable.load(data_dir, config.feature_list).keys
        self.items = np.array([False, *(held_out(str(k).encode()) for k in keys.to_pylist())])
        if not (self.data_dir / "manifest.json").is_file():
            with whole_directory(self.data_dir) as out:
                self._write(out)

    def _id(self, columns: str) -> Feature:
        return next(f for f in getattr(self._config.feature_list, columns) if f.kind is Kind.ID)

    def _write(self, out: Path) -> None:
        for entry in sorted(self._whole.resolve().iterdir()):
            if entry.name not in ("examples", "items", "item_counts.parquet", "manifest.json"):
                (out / entry.name).symlink_to(entry)
        vocabulary = open_transform(self._whole, "query").vocabulary_by_name(self._user.name)
        cold_users = np.array([i for i, key in enumerate(vocabulary, 1) if held_out(bytes(key))])
        counts = np.zeros(len(self.items), np.int64)
        for split in ("train", *SPLITS):
            (out / "examples" / split).mkdir(parents=True)
            for file in example_files(self._whole, split):
                records = list(tf.data.TFRecordDataset(file).as_numpy_iterator())
                if not records:
                    continue
                batch = ExamplesToRecordBatchDecoder().DecodeBatch(records)
                edited = self._edited(batch, split == "train", cold_users, counts)
                write_examples(out / "examples" / split / Path(file).name, edited)
        (out / "items").mkdir()
        items = pq.read_table(self._whole / "items" / "items.parquet")
        at = items.column_names.index(self._item.name)
        ids = items[self._item.name].to_numpy().copy()
        ids[self.items[1:]] = self._sizes[self._item.name] - 1
        items = items.set_column(at, self._item.name, pa.array(ids, items.schema.field(at).type))
        pq.write_table(items, out / "items" / "items.parquet")
        table = pq.read_table(self._whole / "item_counts.parquet")
        columns = {name: table[name].to_numpy().copy() for name in table.column_names}
        for name in columns.keys() - {"item"}:
            columns[name][self.items[1:]] = 0
        columns["examples"] = counts[1:]
        pq.write_table(pa.table(columns), out / "item_counts.parquet")
        whole = finished_data(self._whole, self._config)
        write_manifest(out, fingerprint("cold", ONE_OF, whole["fingerprint"]), whole)

    def _edited(
        self,
        batch: pa.RecordBatch,
        is_train: bool,
        cold_users: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> pa.RecordBatch:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        users = columns[self._user.name].flatten().to_numpy()
        if not is_train:
            users = np.where(np.isin(users, cold_users), self._sizes[self._user.name] - 1, users)
            columns[self._user.name] = _lists(users, np.ones(len(users), np.int64))
            return pa.RecordBatch.from_pydict(columns)
        items = columns["item"].flatten().to_numpy()
        kept = ~np.isin(users, cold_users) & ~self.items[items]
        counts += np.bincount(items[kept], minlength=len(counts))
        history = columns["history"]
        sizes = history.value_lengths().fill_null(0).to_numpy()
        rows, warm = history.flatten().to_numpy(), ~self.items[history.flatten().to_numpy()]
        owner = np.repeat(np.arange(len(sizes)), sizes)
        columns["history"] = _lists(rows[warm], np.bincount(owner[warm], minlength=len(sizes)))
        return pa.RecordBatch.from_pydict(columns).filter(pa.array(kept))

    def figures(self, config: TrainerSections, model_dir: Path) -> dict[str, Figures]:
        """Split -> recall at the largest k, items new to the user, of each kind of cold and of warm."""
        model, k = load_model(config, self.data_dir, model_dir), config.evaluate.ks[-1]
        found: dict[str, Figures] = {}
        for name in SPLITS:
            split = read_split(config, self.data_dir, name, len(self.items) - 1)
            cold_user = np.array([held_out(bytes(key)) for key in split.keys])
            targets = split.targets_of("new")
            items = item_embeddings(model, model.item_table, as_of=name)
            known = model.item_table.counts_events > 0

            def recall(
                users: NDArray[np.bool_],
                wanted: NDArray[np.bool_],
                barred: NDArray[np.bool_] | None = None,
                history: bool = True,
                split: Any = split,
                targets: Targets = targets,
                items: NDArray[np.float32] = items,
            ) -> float:
                rows = np.flatnonzero(users)
                features = {n: v[rows] for n, v in split.features.items()}
                if not history:
                    features["history"] = np.zeros_like(features["history"])
                seen = split.seen[rows]
                embedded = query_embeddings(model, features, 64)
                candidates = np.arange(len(items)) if barred is None else np.flatnonzero(~barred)
                if barred is not None:  # row 0 is padding here as well
                    candidates = np.concatenate([[0], candidates[candidates > 0]])
                seen = seen[:, candidates]
                ranked, _ = top_items(
                    embedded, items[candidates], k, (seen.indices, seen.indptr), 64
                )
                place = np.full(len(users), -1)
                place[rows] = np.arange(len(rows))
                mine = users[targets.users] & wanted[targets.items]
                own = Targets.from_pairs(place[targets.users[mine]], targets.items[mine], len(rows))
                hit = hits(candidates[ranked], own)
                return mean_over_users(recall_at_k(hit, own.counts, k))

            warm = known & ~self.items
            found[name] = {
                "warm users, warm items": recall(~cold_user, warm),
                "cold users with a history": recall(cold_user, warm),
                "cold users without": recall(cold_user, warm, history=False),
                "cold items among all": recall(~cold_user, self.items),
                "cold items among cold ones": recall(~cold_user, self.items, ~self.items),
            }
        return found


def _lists(values: NDArray[Any], sizes: NDArray[Any]) -> pa.LargeListArray:
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values.astype(np.int64)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.01, 0.05, 0.2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--work-dir", type=Path, default=Path("runs/cold"))
    parser.add_argument("--data-dir", type=Path, help="finished preprocessing, default: made here")
    parser.add_argument("--out", type=Path, help="also write the figures here, as JSON")
    given = parser.parse_args()
    console = Console()
    base, _ = configuration.load(given.config)
    whole = given.data_dir or given.work_dir / "whole"
    if given.data_dir is None:
        preprocess(base, whole)
    cold = Cold(base, whole, given.work_dir)
    found: dict[str, list[dict[str, Figures]]] = {}
    for rate in given.rates:
        for seed in given.seeds:
            name = f"rate-{rate:g}-seed-{seed}"
            model_dir, kept = given.work_dir / name, given.work_dir / f"{name}.json"
            settings = [f"towers.unknown_rate={rate}", f"seed={seed}"]
            config, _ = configuration.load(given.config, settings)
            if not kept.is_file():
                train(config, cold.data_dir, model_dir, console=console)
                figures = cold.figures(config, model_dir)
                write_text_atomically(kept, json.dumps(figures, indent=1) + "\n")
            found.setdefault(f"{rate:g}", []).append(json.loads(kept.read_text()))
            console.print(name, found[f"{rate:g}"][-1])
    if given.out:
        document = {"libraries": library_versions(), "one of": ONE_OF, "seeds": given.seeds}
        write_text_atomically(given.out, json.dumps({**document, "rates": found}, indent=1) + "\n")
    for split in SPLITS:
        kinds = list(next(iter(found.values()))[0][split])
        table = Table("rate", *kinds, title=f"{split}, recall@{base.evaluate.ks[-1]}, new items")
        for rate_name, runs in found.items():
            cells = []
            for kind in kinds:
                values = [run[split][kind] for run in runs]
                spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
                cells.append(f"{mean(values):.4f}{spread}")
            table.add_row(rate_name, *cells)
        console.print(table)


if __name__ == "__main__":
    main()
