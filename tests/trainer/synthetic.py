"""A small `data/` directory in the format of docs/artifacts.md, with real TF-Transform outputs.

Users of group g take items of category g, so a model has something to learn, and refuse some of the
next category. The popularity of items falls with their row; the last items have no training example.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from preprocessing.base.artifacts import write_manifest
from preprocessing.base.config_io import parse_config
from preprocessing.beam import overhead
from preprocessing.config import AS_OF
from preprocessing.sources import record_blocks
from tests.made_once import made_once
from trainer.config.sections import TrainerSections

USERS, ITEMS, GROUPS, UNSEEN = 48, 64, 4, 4
"""UNSEEN: the last items of the table have no training example."""
PER_USER = 24
HELD_OUT_FROM = 12
"""Of the 20 training examples of a user: their marks where `preprocess.split.held_out` is train."""
TAGS = 6
FEATURES: list[dict[str, Any]] = [
    {"name": "user_key", "side": "query", "kind": "id", "dim": 8},
    {"name": "segment", "side": "query", "kind": "categorical", "dim": 4},
    {"name": "age", "side": "query", "kind": "numeric"},
    {"name": "hour", "side": "context", "kind": "numeric", "buckets": 4, "dim": 4},
    {"name": "product", "side": "item", "kind": "id", "dim": 8},
    {"name": "category", "side": "item", "kind": "categorical", "dim": 4},
    {
        "name": "tags",
        "side": "item",
        "kind": "multi",
        "dim": 4,
        "max_length": 3,
        "weights_column": "tag_weights",
    },
    {"name": "price", "side": "item", "kind": "numeric"},
    {
        "name": "recent",
        "side": "query",
        "kind": "sequence",
        "shared_with": "product",
        "max_length": 8,
    },
    {
        "name": "recent_tags",
        "side": "query",
        "kind": "sequence",
        "shared_with": "tags",
        "max_length": 4,
    },
]


def make_config(work_dir: Path, **sections: dict[str, Any]) -> TrainerSections:
    """The configuration of the synthetic data; keyword arguments replace keys of sections."""
    document: dict[str, Any] = {
        "name": "synthetic",
        "work_dir": str(work_dir),
        "seed": 7,
        "data": {
            "interactions": {"path": "log.csv"},
            "items": {"path": "items.csv"},
            "users": {"path": "users.csv"},
            "columns": {
                "user": "user_key",
                "item": "product",
                "timestamp": "time",
                "reward": "rating",
            },
        },
        "features": FEATURES,
        "towers": {"dim": 8, "item_hidden": [16], "unknown_rate": 0.0},
        "train": {
            "batch_size": 32,
            "max_epochs": 2,
            "checkpoint_every": 8,
            "steps_per_execution": 4,
            "monitor": "recall@10/all",
        },
        "evaluate": {"ks": [5, 10]},
    }  # fmt: skip
    for name, values in sections.items():
        document[name] = {**document.get(name, {}), **values}
    return parse_config(document, TrainerSections, "synthetic")


def write_data(data_dir: Path, seed: int = 0) -> None:
    """Write everything that the trainer reads."""
    rng = np.random.default_rng(seed)
    graphs = made_once("synthetic_graphs", write_transform_graphs)
    shutil.copytree(graphs, data_dir / "transform_graph")
    categories = np.arange(ITEMS) % GROUPS
    tags = [
        sorted(rng.choice(TAGS, int(rng.integers(0, 4)), replace=False) + 1) for _ in range(ITEMS)
    ]
    items = {
        "item": [f"item-{row}" for row in range(1, ITEMS + 1)],
        "title": [f"Title {row}" for row in range(1, ITEMS + 1)],
        "product": pa.array(range(1, ITEMS + 1), pa.int64()),
        "category": pa.array(categories + 1, pa.int64()),
        "tags": pa.array(tags, pa.list_(pa.int64())),
        "tags_weights": pa.array(
            [[1.0 + t for t in each] for each in tags], pa.list_(pa.float32())
        ),
        "price": pa.array(rng.normal(size=ITEMS), pa.float32()),
    }
    (data_dir / "items").mkdir(parents=True)
    pq.write_table(pa.table(items), data_dir / "items" / "items.parquet")
    examples = np.zeros(ITEMS + 1, np.int64)
    records: dict[str, list[bytes]] = {"train": [], "validation": [], "test": []}
    pairs: Counter[tuple[int, int]] = Counter()
    for user in range(USERS):
        group = user % GROUPS
        own = np.flatnonzero(categories[: ITEMS - UNSEEN] == group) + 1
        chance = 1 / np.arange(2, len(own) + 2)
        taken = rng.choice(own, PER_USER, p=chance / chance.sum())
        query = {"user_key": [user + 1], "segment": [group + 1], "age": [float(rng.normal())]}
        log = taken[: PER_USER - 4]
        pairs.update((user, int(item)) for item in log)
        for at, item in enumerate(log):
            fields = {
                "hour": [1 + at % 4],
                "history": log[max(0, at - 8) : at],
                "item": [item],
                "timestamp": [at],
                "held_out": [at >= HELD_OUT_FROM],
                "user_row": [user],
                "refused": refused_by(user),
            }
            records["train"].append(_example({**query, **fields, "reward": [1.0 + at % 2]}))
            examples[item] += 1
        for split, targets in (("validation", taken[-4:-2]), ("test", taken[-2:])):
            seen, counts = np.unique(log, return_counts=True)
            later = {
                "user": [f"user-{user}".encode()],
                "hour": [1],
                "history": log[-8:],
                "seen": seen,
            }
            distinct = list(dict.fromkeys(targets.tolist()))
            records[split].append(
                _example({**query, **later, "seen_counts": counts, "targets": distinct})
            )
    for split, rows in records.items():
        directory = data_dir / "examples" / split
        directory.mkdir(parents=True)
        for part in range(2):
            path = str(directory / f"part-{part:05d}.tfrecord")
            with tf.io.TFRecordWriter(path) as writer:
                for row in rows[part::2]:
                    writer.write(row)
            record_blocks.write(path, [len(row) for row in rows[part::2]])
    rows = np.arange(1, ITEMS + 1)
    counts = {"item": rows, "examples": examples[1:], "events": examples[1:]}
    counts |= {f"recent_{instant}": examples[1:] / 2 for instant in AS_OF}
    pq.write_table(pa.table(counts), data_dir / "item_counts.parquet")
    pair_users, pair_items = zip(*pairs, strict=True)
    columns = {"user": pair_users, "item": pair_items, "events": list(pairs.values())}
    user_items = pa.table({**columns, "last": [PER_USER] * len(pairs)})
    pq.write_table(user_items, data_dir / "user_items.parquet")
    names = ["product", "category", "tags", "price"]
    related = rng.random((4, 4))
    (data_dir / "feature_mi.json").write_text(
        json.dumps({"features": names, "mi": (related + related.T).tolist()})
    )
    write_manifest(data_dir, f"synthetic-{seed}", {"step": "preprocess"})


def refused_by(user: int) -> list[int]:
    """Rows of the items that a user refused, oldest first: up to four of the next category."""
    first = (user + 1) % GROUPS + 1
    return [first + GROUPS * at for at in range(user % 5)]


def write_transform_graphs(directory: Path) -> None:
    """Run TF-Transform over raw values that give the vocabularies above; takes some seconds."""
    query = [
        {
            "user_key": [f"user-{u}"],
            "segment": [f"s{u % GROUPS}"],
            "age": [float(u % 7)],
            "hour": [float(u % 24)],
        }
        for u in range(USERS)
    ]
    item = [
        {
            "product": [f"item-{i}"], "category": [f"c{i % GROUPS}"], "price": [float(i)],
            "tags": [f"t{i % TAGS}"], "tags_weights": [1.0],
        }
        for i in range(ITEMS)
    ]  # fmt: skip
    _transform(query, directory / "query", _preprocess_query)
    _transform(item, directory / "item", _preprocess_item)


# Numbers stay as they are: the trainer reads their types alone, and every analyzer takes seconds.
def _preprocess_query(inputs: dict[str, Any]) -> dict[str, Any]:
    hours = tf.cast(_single(inputs["hour"], 0.0), tf.int64) // 6 + 1
    return {
        **_indices(inputs, ["user_key", "segment"]),
        "age": _single(inputs["age"], 0.0),
        "hour": hours,
    }


def _preprocess_item(inputs: dict[str, Any]) -> dict[str, Any]:
    vocabulary = tft.vocabulary(inputs["tags"], vocab_filename="tags")
    tags = tft.apply_vocabulary(inputs["tags"], vocabulary, num_oov_buckets=1)
    shifted = tf.SparseTensor(tags.indices, tags.values + 1, tags.dense_shape)
    return {
        **_indices(inputs, ["product", "category"]),
        "tags": shifted,
        "tags_weights": inputs["tags_weights"],
        "price": _single(inputs["price"], 0.0),
    }


def _indices(inputs: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {
        name: tft.compute_and_apply_vocabulary(
            _single(inputs[name], ""), num_oov_buckets=1, vocab_filename=name
        )
        + 1
        for name in names
    }


def _single(values: tf.SparseTensor, default: Any) -> tf.Tensor:
    dense = tf.SparseTensor(values.indices, values.values, [values.dense_shape[0], 1])
    return tf.sparse.to_dense(dense, default_value=default)[:, 0]


def _transform(rows: list[dict[str, Any]], path: Path, preprocessing_fn: Any) -> None:
    spec = {
        name: tf.io.VarLenFeature(tf.string if isinstance(values[0], str) else tf.float32)
        for name, values in rows[0].items()
    }
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    with (
        tempfile.TemporaryDirectory() as scratch,
        overhead.signatures_read_once(),
        tft_beam.Context(temp_dir=scratch),
    ):
        transform_fn = (rows, metadata) | tft_beam.AnalyzeDataset(preprocessing_fn)
        _ = transform_fn | tft_beam.WriteTransformFn(str(path))


def _example(fields: dict[str, Any]) -> bytes:
    features = {}
    for name, values in fields.items():
        listed = list(values)
        if listed and isinstance(listed[0], bytes):
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=listed))
        elif listed and isinstance(listed[0], float):
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=listed))
        else:
            features[name] = tf.train.Feature(
                int64_list=tf.train.Int64List(value=[int(v) for v in listed])
            )
    encoded: bytes = tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()
    return encoded
