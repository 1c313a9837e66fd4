"""The export step: what appears, when, and that nothing half-done ever does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from preprocessing.base.errors import LongtailError, LongtailFailure
from serving.config import ServingSections
from serving.export import check as export_check
from serving.export import run as step
from serving.export import signatures
from serving.export.run import export, main, read_description
from serving.export.sample_requests import item_arrays, query_arrays, read_items, read_queries
from serving.export.vector_check import require_alike
from serving.server.servable import Servable
from tests.serving.recall_data import (
    FEATURES,
    HISTORY,
    ITEMS,
    QUIET,
    K,
    RecallData,
    exported,
    recall_data,
    write_untrained,
)
from tests.serving.stacks import needs_scann
from trainer.base.keras2 import tf
from trainer.evaluation.retrieval import item_embeddings
from trainer.loop.build import load_model

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def shop() -> RecallData:
    return recall_data()


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_check, "_SECONDS", 0.05)
        yield


def run(shop: RecallData, target: Path, *overrides: str) -> Path:
    return export(shop.config(*overrides), shop.data, shop.model, target, console=QUIET)


def entries(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.exists() else []


def test_a_models_config_of_somebody_else_is_told_before_the_work(
    shop: RecallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "labels.json").write_text('{"stable": 1}')
    (tmp_path / "models.config").write_text("# mine\n")
    monkeypatch.setattr(step, "_Export", None)  # nothing of it is begun
    with pytest.raises(LongtailError, match=r"models.config: expected none, or one"):
        run(shop, tmp_path)
    assert entries(tmp_path) == ["1", "labels.json", "models.config"]
    assert (tmp_path / "models.config").read_text() == "# mine\n"


def test_versions_rise_and_a_current_one_is_kept(shop: RecallData, tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()  # of another tool: numbers go on from it
    (tmp_path / "notes").mkdir()
    first = run(shop, tmp_path)
    assert first == tmp_path / "8"
    made = (first / "saved_model.pb").stat().st_mtime_ns
    assert run(shop, tmp_path) == first
    assert (first / "saved_model.pb").stat().st_mtime_ns == made
    second = run(shop, tmp_path, "export.k=5")
    assert second == tmp_path / "9"
    assert entries(tmp_path) == ["7", "8", "9", "notes"]
    description = read_description(second)
    assert description["version"] == 9
    assert (description["k"], description["max_k"]) == (5, ITEMS)
    assert description["items"] == ITEMS
    assert description["answers"]["embedding_difference"] < 1e-6
    for name in ("score_difference", "product_difference", "item_difference"):
        assert description["answers"][name] < 1e-5
    assert description["answers"]["items"] > 40
    assert set(description["answers"]["latency_ms"]) == {"1", "64"}
    assert not any(str(tmp_path) in p.read_text() for p in second.glob("assets.extra/*.json"))


def test_warmup_requests_are_real_and_answered(shop: RecallData) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    version = exported()
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(str(path))
    ]
    names = [request.model_spec.signature_name for request in logs]
    assert names == ["serving_default"] * 4 + [
        "recommend", "embed_query", "similar_items", "embed_item",
    ]  # fmt: skip
    assert {request.model_spec.name for request in logs} == {"tiny"}
    user = tf.make_ndarray(logs[0].inputs["user_id"]).tolist()
    assert user == [[read_queries(shop.data)[0]["user_id"][0].encode()]]
    assert read_description(version)["warmup_requests"] == len(logs)
    Servable(str(version)).close()  # replays them


@needs_scann
@pytest.mark.parametrize(
    "leaves", [[], ["export.scann.leaves=8", "export.scann.leaves_to_search=8"]]
)
def test_scann(shop: RecallData, tmp_path: Path, leaves: list[str]) -> None:
    version = run(shop, tmp_path, "export.index=scann", *leaves)
    measured = read_description(version)["index"]
    assert measured["kind"] == "scann"
    assert measured["leaves"] == (8 if leaves else None)
    assert measured["recall"] >= 0.99
    assert set(measured["latency_ms"]) == {"index", "exact"}
    exact = exported()
    features = shop.config().feature_list
    raw = query_arrays(read_queries(shop.data), features)
    raw["exclude"] = np.full([len(raw["user_id"]), 1], "i1", object)
    answers = []
    for path in (version, exact):
        servable = Servable(str(path))
        answers.append(servable.run("serving_default", raw))
        servable.close()
    assert np.mean(answers[0]["item_ids"] == answers[1]["item_ids"]) > 0.95
    assert not (answers[0]["item_ids"] == b"i1").any()


class Popular(NamedTuple):
    """A model with a popularity coordinate and two histories, and its export."""

    config: ServingSections
    model: Path
    version: Path


@pytest.fixture(scope="module", params=["exact", pytest.param("scann", marks=needs_scann)])
def popular(
    request: pytest.FixtureRequest, shop: RecallData, tmp_path_factory: pytest.TempPathFactory
) -> Popular:
    """With each index, and each encoder of histories."""
    past_tags = {"name": "past_tags", "side": "query", "kind": "sequence", "shared_with": "tags"}
    scann = "export.scann={leaves: 8, leaves_to_search: 8}"
    config = shop.config(
        f"features={json.dumps([*FEATURES, {**past_tags, 'max_length': HISTORY}])}",
        "towers.popularity={strength: 1.0}",
        f"export.index={request.param}",
        *([scann, "towers.history={encoder: attention}"] if request.param == "scann" else []),
    )
    root = tmp_path_factory.mktemp("popular")
    write_untrained(config, shop.data, root / "model")
    version = export(config, shop.data, root / "model", root / "export", console=QUIET)
    return Popular(config, root / "model", version)


def test_a_popularity_coordinate(shop: RecallData, popular: Popular) -> None:
    """The vectors are a column wider: it counts for queries, and not for what is similar."""
    config, model_dir, version = popular
    assert read_description(version)["dim"] == config.towers.dim + 1
    model = load_model(config, shop.data, model_dir)
    items = item_embeddings(model, model.item_table)
    servable = Servable(str(version))
    raw = query_arrays(read_queries(shop.data), config.feature_list)
    queries = servable.run("embed_query", raw)["embedding"]
    barred = np.full([len(queries), 1], "", object)
    found = servable.run("serving_default", {**raw, "exclude": barred})
    best = np.argsort(-(queries @ items[1:].T), axis=1, kind="stable")[:, 0] + 1
    assert found["item_ids"][:, 0].tolist() == model.item_table.ids[best].tolist()
    similar = servable.run("similar_items", {"item": np.array([["i3"]], object)})  # row 4
    preference = items[:, : config.towers.dim]
    alike = np.argsort(-(preference[1:] @ preference[4]), kind="stable")[1 : K + 1] + 1
    assert similar["item_ids"][0].tolist() == model.item_table.ids[alike].tolist()
    # embed_item gives what the index holds, and of a cold item the preference and no event's popularity.
    sampled = read_items(shop.data)
    events = model.item_table.counts_events[sampled.rows]
    assert (events == 0).any()
    assert events.max() == model.item_table.counts_events.max()
    for row, raw in zip(sampled.rows, sampled.raw, strict=True):
        own = servable.run("embed_item", item_arrays([raw], config.feature_list))["embedding"]
        np.testing.assert_allclose(own[0], items[row], atol=1e-5)
        cold = item_arrays([{**raw, "item_id": ["", "never seen"]}], config.feature_list)
        new = servable.run("embed_item", cold)["embedding"][0]
        # tau * strength * log P, with the half event that an item without any counts as
        counts = model.item_table.counts_examples
        expected = config.loss.temperature * np.log(0.5 / counts.sum())
        np.testing.assert_allclose(new[-1], expected, rtol=1e-5)
    assert len(np.unique(items[sampled.rows, -1])) > 10
    servable.close()


def test_a_model_without_an_id_feature_is_asked_for_the_id(
    shop: RecallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The popularity is the item's, so that the signature has to know which item it is."""
    config = shop.config("prior={beta: 0.5}")
    write_untrained(config, shop.data, tmp_path / "model")
    monkeypatch.setattr(step, "item_key", lambda config: None)
    version = export(config, shop.data, tmp_path / "model", tmp_path / "export", console=QUIET)
    assert read_description(version)["answers"]["item_difference"] < 1e-5
    servable = Servable(str(version))
    assert "item" in servable.signature_defs["embed_item"].inputs
    servable.close()


@pytest.mark.parametrize("popular", [True, False])
def test_item_vectors_that_are_not_the_rows_export_nothing(
    shop: RecallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, popular: bool
) -> None:
    """The popularity of no item for all, as it was once; or the preference of one item of all."""
    config = shop.config("towers.popularity={strength: 1.0}")
    write_untrained(config, shop.data, tmp_path / "model")
    if popular:
        no_id = lambda texts: tf.fill([tf.shape(texts)[0]], "")  # noqa: E731
        monkeypatch.setattr(signatures, "first_texts", no_id)
        many = r"\d\d"
    else:
        raw = read_items(shop.data)
        raw.raw[5]["category"] = ["c6" if raw.raw[5]["category"] == ["c1"] else "c1"]
        monkeypatch.setattr(step, "read_items", lambda data_dir: raw)
        many = "1"
    with pytest.raises(LongtailFailure, match=rf"embed_item to give what .* limit for {many} of"):
        export(config, shop.data, tmp_path / "model", tmp_path / "export", console=QUIET)
    assert entries(tmp_path / "export") == []


def test_no_constant_of_the_graph_grows_with_the_catalogue(popular: Popular) -> None:
    """A SavedModel's graph holds 2 GB at most; all that is as long as the catalogue is a variable."""
    version = popular.version
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    constants = [tf.make_ndarray(n.attr["value"].tensor) for n in nodes if n.op == "Const"]
    assert len(constants) > 100
    assert max(values.size for values in constants) < ITEMS
    stored = tf.train.list_variables(str(version / "variables" / "variables"))
    columns = [shape for _, shape in stored if shape[:1] == [ITEMS + 1]]
    # The ids; then of histories the items' index, their tags (50 at most) and weights.
    assert sorted(columns) == [[ITEMS + 1], [ITEMS + 1], [ITEMS + 1, 50], [ITEMS + 1, 50]]


@needs_scann
def test_too_low_a_recall_exports_nothing(shop: RecallData, tmp_path: Path) -> None:
    coarse = ["export.scann.leaves=30", "export.scann.leaves_to_search=1", "export.k=3"]
    with pytest.raises(
        LongtailFailure, match=r"raise export.scann.leaves_to_search \(now 1 of 30\)"
    ):
        run(shop, tmp_path, "export.index=scann", "export.scann.min_recall=1", *coarse)
    assert entries(tmp_path) == []


def test_the_worst_vector_is_named_and_all_that_differ_are_counted() -> None:
    served, wanted = np.zeros([4, 2]), np.zeros([4, 2])
    served[:, 1] = [1e-5, 0.5, np.nan, 0]
    with pytest.raises(
        LongtailFailure, match=r"of nan for place 2, .* limit for 2 of 4: preprocess"
    ):
        require_alike(served, wanted, "expected the same", lambda at: f"place {at}")
    assert require_alike(served[[0, 3]], wanted[:2], "", str) == 1e-5


def test_train_serve_skew_exports_nothing(
    shop: RecallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One user whose missing age is sent as the number 0: a difference that no shape would show."""
    queries: list[Any] = [dict(query) for query in read_queries(shop.data)]
    queries[3]["age"] = [0.0]
    monkeypatch.setattr(step, "read_queries", lambda data_dir: queries)
    with pytest.raises(LongtailFailure, match=r"train/serve skew.*above that limit for 1 of"):
        run(shop, tmp_path)
    assert entries(tmp_path) == []


def test_fewer_items_than_k(shop: RecallData, tmp_path: Path) -> None:
    version = run(shop, tmp_path, "export.k=500")
    servable = Servable(str(version))
    raw = query_arrays(read_queries(shop.data)[:1], shop.config().feature_list)
    answer = servable.run("serving_default", {**raw, "exclude": np.array([[""]], object)})
    servable.close()
    assert answer["item_ids"].shape == (1, 500)
    assert (answer["item_ids"][0, :ITEMS] != b"").all()
    assert (answer["item_ids"][0, ITEMS:] == b"").all()


def test_a_killed_export_leaves_no_version(shop: RecallData, tmp_path: Path) -> None:
    """Killed while the SavedModel is being written; the next export cleans up and takes the number."""
    command = [sys.executable, "-m", "serving.export.run", str(shop.config_path)]
    process = subprocess.Popen(
        [*command, "--export-dir", str(tmp_path)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 900
    while not list(tmp_path.glob(".*.tmp/variables")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [name for name in entries(tmp_path) if not name.startswith(".")] == []
    assert run(shop, tmp_path) == tmp_path / "1"
    assert entries(tmp_path) == ["1"]


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "variables.data: No space left on device"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_full_disk_says_so_and_leaves_nothing(
    shop: RecallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(module: Any, path: str, **_: Any) -> None:
        Path(path, "saved_model.pb").write_bytes(b"half")
        raise error

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(LongtailFailure, match=r"cannot write .*: .*No space left on device"):
        run(shop, tmp_path)
    assert entries(tmp_path) == []


def test_what_is_missing_is_named(shop: RecallData, tmp_path: Path) -> None:
    with pytest.raises(LongtailError, match="run preprocess first"):
        export(shop.config(), tmp_path, shop.model, tmp_path / "x", console=QUIET)
    with pytest.raises(LongtailError, match="run train first"):
        export(shop.config(), shop.data, tmp_path, tmp_path / "x", console=QUIET)
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("export.k=2000", "expected k at most max_k"),
        (
            "export.scann={leaves: 5, leaves_to_search: 6}",
            "expected leaves_to_search at most leaves",
        ),
        ("export.index=faiss", "export.index"),
        ("export.scann={leaves: 5}", "scann is read by index 'scann' alone, received 'exact'"),
        ("export.warmup_requests=1000", "export.warmup_requests"),
    ],
)
def test_impossible_settings(shop: RecallData, override: str, message: str) -> None:
    with pytest.raises(LongtailError, match=message):
        shop.config(override)


def test_module_entry_point(
    shop: RecallData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directories = ["--model-dir", str(shop.model), "--export-dir", str(tmp_path)]
    assert main([str(shop.config_path), *directories]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "1")
    assert json.loads((tmp_path / "1/assets.extra/longtail.json").read_text())["k"] == K
    assert main([str(shop.config_path), "--data-dir", str(tmp_path / "no"), *directories]) == 2
    assert capsys.readouterr().err.startswith("error: expected a finished ")
