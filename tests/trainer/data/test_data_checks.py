"""Anomalies of the examples: found in what was spoilt on purpose, none where nothing was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from preprocessing.base.artifacts import write_manifest
from tests.trainer.synthetic import GROUPS
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.data_checks import check_data
from trainer.data.readable_examples import UNKNOWN, sample

Configure = Callable[..., TrainerSections]
pytest.importorskip("tensorflow_data_validation")


def spoil(data_dir: Path, split: str, change: Callable[[tf.train.Example], None]) -> None:
    """Rewrites the examples of a split."""
    for path in (data_dir / "examples" / split).glob("part-*.tfrecord"):
        records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                example = tf.train.Example.FromString(record)
                change(example)
                writer.write(example.SerializeToString())
    write_manifest(data_dir, f"spoilt-{split}", {})


def segment(value: int) -> Callable[[tf.train.Example], None]:
    def change(example: tf.train.Example) -> None:
        example.features.feature["segment"].int64_list.value[:] = [value]

    return change


def test_a_sample_reads_like_the_log(data_dir: Path, configure: Configure) -> None:
    batch = sample(configure(), data_dir, "train", 100)
    # 960 examples, every tenth.
    assert batch.num_rows == 96
    row = {name: batch.column(name)[0].as_py() for name in batch.schema.names}
    assert row["segment"][0] in ("s0", "s1", "s2", "s3") and row["category"][0].startswith("c")
    assert row["user_key"] == row["product"] == ["(known)"]
    assert row["history length"] == [0]
    assert set(row["tags"]) <= {f"t{i}" for i in range(6)}


def test_nothing_is_odd_of_even_data(data_dir: Path, configure: Configure, tmp_path: Path) -> None:
    # Validation comes after the histories have grown: ages and hours are as before.
    config = configure(data_checks={"max_drift": 0.9})
    assert check_data(config, data_dir, tmp_path / "s") == []
    written = {path.name for path in (tmp_path / "s").iterdir()}
    splits = {f"{split}.pbtxt" for split in ("train", "validation", "test")}
    assert written == splits | {"schema.pbtxt", "anomalies.json", "manifest.json"}
    before = (tmp_path / "s" / "manifest.json").stat().st_mtime_ns
    assert check_data(config, data_dir, tmp_path / "s") == []
    assert (tmp_path / "s" / "manifest.json").stat().st_mtime_ns == before


def test_values_that_training_does_not_know_are_told(
    data_copy: Path, configure: Configure, tmp_path: Path
) -> None:
    spoil(data_copy, "validation", segment(GROUPS + 1))  # the hashed bucket
    found = check_data(configure(data_checks={"max_drift": 0.9}), data_copy, tmp_path / "s")
    own = [each for each in found if each["feature"] == "segment"]
    assert {each["split"] for each in own} == {"validation against train"}
    assert any(UNKNOWN in each["found"] for each in own)
    assert any("training does not know" in each["means"] for each in own)


def test_a_feature_that_broke_since_yesterday_is_told(
    data_dir: Path, data_copy: Path, configure: Configure, tmp_path: Path
) -> None:
    config = configure(data_checks={"max_drift": 0.3})
    check_data(config, data_dir, tmp_path / "yesterday")
    spoil(data_copy, "train", segment(0))
    spoil(data_copy, "validation", segment(0))
    found = check_data(config, data_copy, tmp_path / "today", tmp_path / "yesterday")
    own = [e for e in found if e["feature"] == "segment" and "earlier run" in e["split"]]
    assert own and any("missing" in e["means"] or "empty" in e["means"] for e in own), found


def test_off_is_off(data_dir: Path, configure: Configure, tmp_path: Path) -> None:
    config = configure(data_checks={"enabled": False})
    assert check_data(config, data_dir, tmp_path / "s") == []
    assert not (tmp_path / "s").exists()
