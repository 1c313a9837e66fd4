"""A coordinator, a worker and two servers as real processes on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preprocessing.errors import LongtailError
from tests.trainer.processes import cluster_of, entry_point, tails, tasks, wait
from trainer.build import load_model
from trainer.cluster import Cluster
from trainer.config import TrainerSections
from trainer.distribution import distribute
from trainer.keras_gate import tf
from trainer.parameter_servers import serve
from trainer.task import training_fingerprint
from trainer.validation import Validation

Configure = Callable[..., TrainerSections]


@pytest.mark.slow
def test_a_model_of_shards_learns_and_is_loaded_by_one_process(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    # 512 bytes: the tables of ids, 66 x 8 and 50 x 8 floats, fall into two shards each.
    sections = {"train": {"min_shard_bytes": 512, "max_epochs": 3}}
    config = configure(**sections)
    logs, command = tmp_path / "logs", entry_point(config, data_dir, tmp_path)
    with tasks(cluster_of(chief=1, worker=1, ps=2), command, logs) as started:
        codes = wait(started, logs)
    assert set(codes.values()) == {0}, tails(logs)

    model_dir = tmp_path / "model"
    records = json.loads((model_dir / "history.json").read_text())
    assert [record["step"] for record in records] == [30, 60, 90]
    assert records[-1]["loss"] < records[0]["loss"]
    newest = tf.train.latest_checkpoint(str(model_dir / "checkpoints"))
    saved = [shape for name, shape in tf.train.list_variables(newest) if "optimizer/" in name]
    assert [66, 8] in saved and [50, 8] in saved  # the accumulators of both tables, whole
    model = load_model(config, data_dir, model_dir)
    best = max(record["recall@10/all"] for record in records)
    assert Validation(config, data_dir).figures(model)["recall@10/all"] == pytest.approx(best)


def test_shards_are_no_part_of_what_weights_depend_on(configure: Configure) -> None:
    small = configure(train={"min_shard_bytes": 512})
    assert training_fingerprint(small, "data") == training_fingerprint(configure(), "data")


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"loss": {"probabilities": "streamed"}}, "loss.probabilities 'streamed'"),
        (
            {"negatives": {"memory": {"size": 32, "warm_up_steps": 4}}},
            "negatives.memory",
        ),
        ({"negatives": {"known_positives": "remove"}}, "known_positives 'remove'"),
        ({"train": {"continue_from": "yesterday"}}, "train.continue_from"),
    ],
)
def test_what_needs_an_order_of_steps_is_refused_before_connecting(
    configure: Configure, sections: dict[str, Any], named: str
) -> None:
    jobs = {"chief": ("a:1",), "worker": ("b:1",), "ps": ("c:1",)}
    with pytest.raises(LongtailError, match=f"parameter servers.*received .*{named}"):
        distribute(Cluster(jobs, "chief", 0), configure(**sections))
    with pytest.raises(LongtailError, match=f"parameter servers.*received .*{named}"):
        serve(Cluster(jobs, "ps", 0), configure(**sections), lambda: True)
