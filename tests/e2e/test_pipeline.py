"""The steps as a TFX pipeline: pushed once, cached after that, and stopped or refused where it should be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipelines.rollout.gates import GatesConfig
from serving.export.run import newest_version, read_description

pytest.importorskip("tfx")
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import standard_artifacts

from pipelines.tfx import blessing as blessing_gate
from pipelines.tfx.local import LOG
from tests.e2e import kill_each
from tests.e2e.piped import QUICK, artifact, results, run, words


class Whole(NamedTuple):
    """A run that nobody killed, and what it came to before others followed it."""

    work_dir: Path
    results: dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shop_config: Path) -> Whole:
    """The shop's first run, by a process of its own."""
    directory = tmp_path_factory.mktemp("pipeline")
    command = [sys.executable, "-m", "pipelines.cli", *words(shop_config, directory)]
    first = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert first.returncode == 0, first.stderr
    assert "pushed" in first.stdout
    return Whole(directory, results(directory))


@pytest.fixture
def work_dir(whole: Whole) -> Path:
    """Where the first run took place."""
    return whole.work_dir


def test_the_pushed_version_serves_and_artifacts_are_tfx_s_own(work_dir: Path) -> None:
    from serving.server.servable import Servable

    pushed = newest_version(work_dir / "export" / "shop")
    assert pushed is not None
    servable = Servable(str(pushed))
    assert "recommend" in servable.signature_defs
    servable.close()
    assert {path.name for path in artifact(work_dir, "Preprocessing", "examples").iterdir()} == {
        "Split-train",
        "Split-validation",
        "Split-test",
    }
    graph = artifact(work_dir, "Preprocessing", "transform_graph")
    assert (graph / "transform_fn" / "saved_model.pb").is_file()
    assert (artifact(work_dir, "StatisticsGen", "statistics") / "Split-train").is_dir()
    metrics = json.loads(
        (artifact(work_dir, "RecallEvaluation", "evaluation") / "metrics.json").read_text()
    )
    assert metrics["headline"]
    assert (artifact(work_dir, "RecallGate", "blessing") / "BLESSED").is_file()


def test_what_is_pushed_has_learned_all_and_is_judged_by_its_evaluated_model(whole: Whole) -> None:
    pushed = newest_version(whole.work_dir / "export" / "shop")
    assert pushed is not None
    said = read_description(pushed)
    fit, table = said["final_fit"], artifact(whole.work_dir, "Preprocessing", "item_table")
    data = json.loads((table / "manifest.json").read_text())
    assert fit["evaluated"]["data"] == data["fingerprint"] != said["made_from"]["data"]
    assert (
        fit["evaluated"]["examples"] == data["counts"]["train_examples"] < fit["served"]["examples"]
    )
    assert (fit["served"]["before"], fit["evaluated"]["until"]) == (None, None)
    record = json.loads((pushed / "assets.extra" / "blessing.json").read_text())
    assert record["model"] == str(artifact(whole.work_dir, "Trainer", "model"))


def test_a_second_run_takes_everything_from_the_cache_and_pushes_no_twin(
    work_dir: Path, shop_config: Path
) -> None:
    before = newest_version(work_dir / "export" / "shop")
    again = run(shop_config, work_dir)
    assert again.code == 0, again.err
    assert newest_version(work_dir / "export" / "shop") == before
    # Since the first run there is a blessed model, this very one, for which the gate asks anew.
    for node in kill_each.NODES:
        if node not in ("LatestBlessedModel", "RecallGate", "FinalFit", "Pusher"):
            assert f"{node} from the cache" in again.out
    assert "the final fit is there already" in again.out


def test_a_model_made_worse_is_neither_blessed_nor_pushed(
    work_dir: Path, shop_config: Path
) -> None:
    before = newest_version(work_dir / "export" / "shop")
    worse = run(shop_config, work_dir, "train.learning_rate=1e-7", "train.max_epochs=1")
    assert worse.code == 0, worse.err
    assert "gate not kept: recall@10/new overall against the blessed model" in worse.out
    assert newest_version(work_dir / "export" / "shop") == before
    assert "nothing is fitted" in worse.out
    blessing = artifact(work_dir, "RecallGate", "blessing")
    assert (blessing / "NOT_BLESSED").is_file()
    failed = [c for c in json.loads((blessing / "checks.json").read_text()) if not c["passed"]]
    assert failed


def test_drift_between_training_and_serving_stops_the_pipeline(
    work_dir: Path, shop_config: Path, tmp_path: Path
) -> None:
    log = tmp_path / "requests.jsonl"
    lines = [{"customer": "C9999", "channel": "kiosk", "history": ["A0001"]} for _ in range(200)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stopped = run(shop_config, work_dir, f"pipeline.serving_log={log}")
    assert stopped.code == 1
    assert "anomaly in served customer" in stopped.out
    assert "Jensen-Shannon" in (work_dir / "tfx" / LOG).read_text()
    assert "pipeline.drift_threshold" in stopped.err


def test_a_run_that_is_killed_in_every_component_ends_with_the_same_artifacts(
    shop_config: Path, whole: Whole, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.e2e.kill_each", str(shop_config)]
    command += [f"work_dir={tmp_path}", *QUICK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr + done.stdout
    for node in kill_each.NODES:
        assert f"killed in {node}" in done.stdout
    wanted, received = whole.results, results(tmp_path)
    assert wanted["label"] and wanted["left"] == []
    assert {name for name in wanted if wanted[name] != received[name]} == set()


def test_an_anomaly_in_the_examples_stops_the_pipeline_before_training(
    whole: Whole, shop_config: Path, tmp_path: Path
) -> None:
    schema = tmp_path / "schema.pbtxt"
    inferred = artifact(whole.work_dir, "SchemaGen", "schema") / "schema.pbtxt"
    parsed = text_format.Parse(inferred.read_text(), schema_pb2.Schema())
    channel = next(feature for feature in parsed.feature if feature.name == "channel")
    channel.int_domain.min, channel.int_domain.max = 0, 1
    schema.write_text(text_format.MessageToString(parsed))
    trained = len(list((whole.work_dir / "tfx" / "Trainer" / "model").iterdir()))
    stopped = run(shop_config, whole.work_dir, f"pipeline.schema_file={schema}")
    assert stopped.code == 1
    assert "anomaly in train, channel" in stopped.out
    assert "anomaly in train, channel" in (whole.work_dir / "tfx" / LOG).read_text()
    assert "repair the source" in stopped.err
    assert len(list((whole.work_dir / "tfx" / "Trainer" / "model").iterdir())) == trained
    schema.write_text(inferred.read_text())  # repaired, in its place
    assert run(shop_config, whole.work_dir, f"pipeline.schema_file={schema}").code == 0


def test_a_model_that_does_not_serve_is_not_blessed(whole: Whole, tmp_path: Path) -> None:
    """Else the next run would compare with it, or go on from it."""
    inputs = {}
    for name, kind, node in (
        ("model", standard_artifacts.Model, "Trainer"),
        ("evaluation", standard_artifacts.ModelEvaluation, "RecallEvaluation"),
        ("transform_graph", standard_artifacts.TransformGraph, "Preprocessing"),
        ("infra_blessing", standard_artifacts.InfraBlessing, "InfraValidation"),
    ):
        inputs[name] = [kind()]
        at = "blessing" if name == "infra_blessing" else name
        inputs[name][0].uri = str(artifact(whole.work_dir, node, at))
    blessing = standard_artifacts.ModelBlessing()
    blessing.uri = str(tmp_path)
    for serves, marked in ((0, "NOT_BLESSED"), (1, "BLESSED")):
        inputs["infra_blessing"][0].set_int_custom_property("blessed", serves)
        properties = {"config": "{}", "gates": GatesConfig(k=10).model_dump_json(), "served": "{}"}
        blessing_gate.Executor().Do(inputs, {"blessing": [blessing]}, properties)
        assert blessing.get_int_custom_property("blessed") == serves
        assert (tmp_path / marked).is_file()
