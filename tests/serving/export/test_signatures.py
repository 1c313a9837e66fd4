"""The signatures of an exported model, asked the way TF Serving asks: a TF1 session that checks no shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing.base.errors import LongtailError
from preprocessing.features import FeatureList, Kind
from serving.export.inputs import first_texts, last_items, raw_features
from serving.export.sample_requests import no_exclusions, query_arrays, read_queries, unknown_query
from serving.export.signatures import Parts, RecallModule
from serving.index.exact import ExactIndex
from serving.request_limits import RequestLimits
from serving.server.servable import Servable
from serving.server.status import StatusError
from tests.serving.recall_data import HISTORY, ITEMS, QUIET, K, RecallData, recall_data
from trainer.base.keras2 import tf
from trainer.data.vocabulary import open_transform
from trainer.evaluation.queries import evaluation_queries
from trainer.evaluation.retrieval import item_embeddings, query_embeddings, top_items
from trainer.loop.build import load_model
from trainer.towers.recall_model import RecallModel

pytestmark = pytest.mark.slow
LOWEST = -3.4028234663852886e38


@pytest.fixture(scope="module")
def shop() -> RecallData:
    return recall_data()


@pytest.fixture(scope="module")
def model(shop: RecallData) -> RecallModel:
    return load_model(shop.config(), shop.data, shop.model)


@pytest.fixture(scope="module")
def servable(shop: RecallData, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servable]:
    from serving.export.run import export

    version = export(
        shop.config(), shop.data, shop.model, tmp_path_factory.mktemp("export"), console=QUIET
    )
    loaded = Servable(str(version))
    yield loaded
    loaded.close()


def text(*rows: Sequence[Any]) -> np.ndarray:
    return np.array(rows, object).reshape(len(rows), -1)


def numbers(*rows: Sequence[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(len(rows), -1)


def query(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """A request for one known user, with some inputs replaced."""
    return {
        "user_id": text(["u1"]),
        "age": numbers([21]),
        "interests": text(["x1", "x2"]),
        "store": text(["s2"]),
        "history": text(["i3", "i5"]),
        "exclude": text([""]),
        **changes,
    }


def embedding(servable: Servable, **changes: np.ndarray) -> np.ndarray:
    inputs = query(**changes)
    del inputs["exclude"]
    return servable.run("embed_query", inputs)["embedding"]


def ids(servable: Servable, **changes: np.ndarray) -> list[list[str]]:
    answer = servable.run("serving_default", query(**changes))
    return [[key.decode() for key in row] for row in answer["item_ids"]]


def test_names_and_dtypes_of_the_signatures(servable: Servable) -> None:
    inputs = {
        name: sorted(servable.signature_defs[name].inputs) for name in servable.signature_defs
    }
    asked = ["age", "history", "interests", "store", "user_id"]
    assert inputs.pop("__saved_model_init_op") == []
    assert inputs == {
        "serving_default": sorted([*asked, "exclude"]),
        "recommend": sorted([*asked, "exclude", "k"]),
        "embed_query": asked,
        "embed_item": ["category", "item_id", "price", "tags", "tags_weights", "words"],
        "similar_items": ["item"],
    }
    types = servable.input_types("recommend")
    assert types.pop("age") == tf.float32
    assert types.pop("k") == tf.int32
    assert set(types.values()) == {tf.string}
    answer = servable.run("serving_default", query())
    assert {name: (x.shape, x.dtype) for name, x in answer.items()} == {
        "item_ids": ((1, K), np.dtype(object)),
        "scores": ((1, K), np.dtype(np.float32)),
    }


def test_train_serve_equality(servable: Servable, shop: RecallData, model: RecallModel) -> None:
    """The same users by the transformed examples and by raw requests, one by one and as a batch."""
    features = shop.config().feature_list
    raw = read_queries(shop.data)
    examples = query_embeddings(model, evaluation_queries(shop.data, "validation").features, 64)
    assert len(raw) == len(examples) > 20
    batch = servable.run("embed_query", query_arrays(raw, features))["embedding"]
    np.testing.assert_allclose(batch, examples, atol=1e-6)
    single = [servable.run("embed_query", query_arrays([q], features))["embedding"] for q in raw]
    np.testing.assert_allclose(np.concatenate(single), examples, atol=1e-6)


def test_answers_are_the_best_items_of_exact_search(
    servable: Servable, shop: RecallData, model: RecallModel
) -> None:
    features = shop.config().feature_list
    raw = read_queries(shop.data)
    examples = query_embeddings(model, evaluation_queries(shop.data, "validation").features, 64)
    items = item_embeddings(model, model.item_table)
    rows, scores = top_items(examples, items, K, None, 64)
    answer = servable.run(
        "serving_default", {**query_arrays(raw, features), "exclude": no_exclusions(len(raw))}
    )
    np.testing.assert_array_equal(answer["item_ids"], model.item_table.ids[rows])
    np.testing.assert_allclose(answer["scores"], scores, atol=1e-6)


def test_items_are_embedded_as_in_the_table(servable: Servable, model: RecallModel) -> None:
    """Raw item features of the sources, weights and text included."""
    import pandas as pd

    source = pd.read_csv(recall_data().config_path.parent / "items.csv", keep_default_na=False)
    expected = item_embeddings(model, model.item_table)[1:]
    for at, row in source.iterrows():
        weights = [float(w) for w in row["tag_weights"].split("|") if w]
        found = servable.run(
            "embed_item",
            {
                "item_id": text([row["item"]]),
                "category": text([row["category"]]),
                "tags": text(row["tags"].split("|")),
                "tags_weights": numbers(weights or [0.0]),
                "price": numbers([float(row["price"])] if row["price"] else []),
                "words": text([row["title"]]),
            },
        )
        np.testing.assert_allclose(found["embedding"], expected[at : at + 1], atol=1e-6)


def test_a_cold_item_is_embedded_by_its_features(servable: Servable) -> None:
    cold = {
        "item_id": text(["new"]), "category": text(["c1"]), "tags": text(["t1", "t2"]),
        "tags_weights": numbers([1.5, 1.5]), "price": numbers([3.0]), "words": text(["Item"]),
    }  # fmt: skip
    found = servable.run("embed_item", cold)["embedding"]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    heavier = servable.run("embed_item", {**cold, "tags_weights": numbers([1.5, 9.0])})["embedding"]
    assert np.abs(found - heavier).max() > 1e-4


def test_excluded_items_never_appear_and_k_stays(servable: Servable) -> None:
    free = ids(servable)[0]
    barred = ids(servable, exclude=text([free[0], "nobody knows this", free[4], free[4], ""]))[0]
    assert barred[: K - 2] == [key for key in free if key not in (free[0], free[4])]
    assert len(set(barred)) == K


def test_exclusions_of_one_query_do_not_touch_another(servable: Servable) -> None:
    free = ids(servable)[0]
    two = {name: np.repeat(x, 2, axis=0) for name, x in query().items()}
    first, second = ids(servable, **{**two, "exclude": text(["", ""], [free[0], free[1]])})
    assert first == free
    assert second[: K - 2] == free[2:]


def test_an_exhausted_catalogue_is_padded(servable: Servable) -> None:
    left = {f"i{n}" for n in (7, 8, 9)}
    barred = text([f"i{n}" for n in range(ITEMS) if f"i{n}" not in left])
    answer = servable.run("serving_default", query(exclude=barred))
    found = [key.decode() for key in answer["item_ids"][0]]
    assert set(found[:3]) == left
    assert found[3:] == [""] * (K - 3)
    assert (answer["scores"][0, 3:] == np.float32(LOWEST)).all()
    json.dumps(answer["scores"].tolist(), allow_nan=False)


def test_k_of_a_request(servable: Servable) -> None:
    for k in (1, 7, ITEMS):
        answer = servable.run("recommend", query(k=np.array(k, np.int32)))
        assert answer["item_ids"].shape == answer["scores"].shape == (1, k)
    assert answer["item_ids"][0, :K].tolist() == [key.encode() for key in ids(servable)[0]]


@pytest.mark.parametrize("k", [0, -1, ITEMS + 1, 2**31 - 1])
def test_k_out_of_range(servable: Servable, k: int) -> None:
    with pytest.raises(
        StatusError, match=rf"k: expected a number from 1 to {ITEMS}, received"
    ) as e:
        servable.run("recommend", query(k=np.array(k, np.int32)))
    assert e.value.http_status == 400


def test_an_answer_holds_so_many_items(servable: Servable) -> None:
    """Of 1,024 queries as many as serving_default gives, 20 each; 64,000 in any case (max_k 1,000)."""
    for count, k, fits in (
        (640, 100, True),
        (641, 100, False),
        (1024, 62, True),
        (1024, 63, False),
    ):
        inputs = {name: np.repeat(values, count, axis=0) for name, values in query().items()}
        inputs["k"] = np.array(k, np.int32)
        if fits:
            assert servable.run("recommend", inputs)["scores"].shape == (count, k)
            continue
        with pytest.raises(
            StatusError, match="expected at most 64000 items in all lists"
        ) as caught:
            servable.run("recommend", inputs)
        assert caught.value.http_status == 400
        limits = RequestLimits(2_000)  # a client understands it
        limits.learn(str(caught.value))
        assert limits.rows(k) == 64_000 // k
        assert limits.rows(None) == 2_000


def test_several_k(servable: Servable) -> None:
    with pytest.raises(StatusError, match="k: expected a single number"):
        servable.run("recommend", query(k=np.array([3, 4], np.int32)))


def test_a_long_history_keeps_its_last_items(servable: Servable) -> None:
    long = [f"i{n}" for n in range(60)]
    np.testing.assert_array_equal(
        embedding(servable, history=text(long)), embedding(servable, history=text(long[-HISTORY:]))
    )
    changed = embedding(servable, history=text([*long[:-1], "i99"]))
    assert np.abs(changed - embedding(servable, history=text(long))).max() > 1e-4


def test_padding_and_unknown_items_of_a_history_are_ignored(servable: Servable) -> None:
    plain = embedding(servable, history=text(["i3", "i5"]))
    padded = ["", "i3", "no such item", "", "i5", *[""] * 30, "nor this"]
    np.testing.assert_array_equal(embedding(servable, history=text(padded)), plain)


def test_histories_without_items_are_alike(servable: Servable) -> None:
    empty = embedding(servable, history=text([""]))
    np.testing.assert_array_equal(embedding(servable, history=text(["gone", "too"])), empty)
    np.testing.assert_array_equal(embedding(servable, history=np.zeros([1, 0], object)), empty)
    assert np.isfinite(empty).all()


def test_an_unknown_user_goes_to_the_hashed_bucket(servable: Servable) -> None:
    unknown = embedding(servable, user_id=text(["never seen"]))
    np.testing.assert_array_equal(embedding(servable, user_id=text(["nor this"])), unknown)
    missing = embedding(servable, user_id=text([""]))
    assert np.abs(unknown - missing).max() > 1e-4  # index V + 1 and index 0
    assert ids(servable, user_id=text(["never seen"]))[0][0]


def test_a_missing_number_is_the_mean_and_not_zero(servable: Servable) -> None:
    """A z-score that is missing is 0, the mean of the training examples; a sent 0 is the number 0."""
    missing = embedding(servable, age=np.zeros([1, 0], np.float32))
    assert np.abs(missing - embedding(servable, age=numbers([0.0]))).max() > 1e-3


def test_only_the_first_values_of_a_long_list_count(servable: Servable) -> None:
    """``interests`` keeps 2; padding between the values is no value."""
    np.testing.assert_array_equal(
        embedding(servable, interests=text(["", "x1", "", "x2", "x3"])),
        embedding(servable, interests=text(["x1", "x2"])),
    )


def test_nothing_known_at_all(servable: Servable, shop: RecallData) -> None:
    features = shop.config().feature_list
    inputs = {**query_arrays([unknown_query(features)], features), "exclude": no_exclusions(1)}
    assert (servable.run("serving_default", inputs)["item_ids"] != b"").all()


@pytest.mark.parametrize("name", ["history", "exclude", "user_id", "age", "interests"])
def test_batches_of_different_size(servable: Servable, name: str) -> None:
    """TF Serving lets them pass, and some ops would broadcast them."""
    inputs = query()
    inputs[name] = np.repeat(inputs[name], 2, axis=0)
    with pytest.raises(StatusError, match="expected the same batch size in every input"):
        servable.run("serving_default", inputs)


@pytest.mark.parametrize("shape", [(1,), (), (1, 1, 1)])
@pytest.mark.parametrize("name", ["history", "exclude", "user_id", "age"])
def test_inputs_that_are_no_matrices(servable: Servable, name: str, shape: tuple[int, ...]) -> None:
    inputs = query()
    inputs[name] = inputs[name][:, :1].reshape(shape)
    with pytest.raises(StatusError, match=r"expected inputs of shape \[batch, n\], received") as e:
        servable.run("serving_default", inputs)
    assert e.value.http_status == 400


@pytest.mark.parametrize("signature", ["serving_default", "embed_query", "similar_items"])
def test_a_request_holds_so_many_examples(servable: Servable, signature: str) -> None:
    for count, fits in ((1024, True), (1025, False)):
        inputs = {name: np.repeat(values, count, axis=0) for name, values in query().items()}
        if signature == "embed_query":
            del inputs["exclude"]
        if signature == "similar_items":
            inputs = {"item": text(*([["i3"]] * count))}
        if fits:
            servable.run(signature, inputs)
            continue
        with pytest.raises(StatusError, match="expected at most 1024 examples a request") as caught:
            servable.run(signature, inputs)
        assert caught.value.http_status == 400
        limits = RequestLimits(2_000)
        limits.learn(str(caught.value))
        assert limits.rows(None) == limits.rows(10) == 1024


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([["a", "b"], ["", "c"], ["", ""]], [b"a", b"c", b""]),
        ([[], []], [b"", b""]),
    ],
)
def test_first_texts_by_hand(texts: list[list[str]], expected: list[bytes]) -> None:
    given = tf.constant(np.array(texts, object).reshape(len(texts), -1), tf.string)
    assert first_texts(given).numpy().tolist() == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("signature", ["serving_default", "embed_query"])
def test_numbers_that_are_none(servable: Servable, signature: str, bad: float) -> None:
    inputs = query(age=numbers([bad]))
    if signature == "embed_query":
        del inputs["exclude"]
    with pytest.raises(StatusError, match="age: expected finite numbers, received") as caught:
        servable.run(signature, inputs)
    assert caught.value.http_status == 400


def test_weights_have_to_fit_their_values(servable: Servable) -> None:
    item = {
        "item_id": text(["i1"]), "category": text(["c1"]), "tags": text(["t1", "t2"]),
        "tags_weights": numbers([1.5]), "price": numbers([3.0]), "words": text(["Item"]),
    }  # fmt: skip
    with pytest.raises(StatusError, match="tags_weights: expected a weight for each of tags"):
        servable.run("embed_item", item)
    with pytest.raises(StatusError, match="tags_weights: expected finite numbers"):
        servable.run("embed_item", {**item, "tags_weights": numbers([np.nan, 1.0])})


def test_similar_items(servable: Servable, model: RecallModel) -> None:
    items = item_embeddings(model, model.item_table)
    rows, _ = top_items(items[[4, 8]], items, K + 1, None, 64)
    answer = servable.run("similar_items", {"item": text(["i3"], ["i7"])})  # rows 4 and 8
    for at, own in enumerate(("i3", "i7")):
        expected = [key for key in model.item_table.ids[rows[at]] if key != own.encode()][:K]
        assert answer["item_ids"][at].tolist() == expected


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (text(["i1"], ["nope"]), r"item: expected ids of the catalogue, received\] \[nope\]"),
        (text([""]), "item: expected ids of the catalogue"),
        (text(["i1", "i2"]), "item: expected one id a row"),
        (np.array(["i1"], object), "received for item tensors of rank"),
    ],
)
def test_similar_items_of_what_is_no_item(
    servable: Servable, item: np.ndarray, message: str
) -> None:
    with pytest.raises(StatusError, match=message) as caught:
        servable.run("similar_items", {"item": item})
    assert caught.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("in_graph", [False, True])
def test_last_items_by_hand(in_graph: bool) -> None:
    rows = tf.constant([[0, 5, 0, 6, 7, 8], [0, 0, 0, 0, 0, 0], [1, 2, 0, 0, 0, 0]], tf.int64)
    call = tf.function(last_items) if in_graph else last_items
    np.testing.assert_array_equal(call(rows, 3), [[6, 7, 8], [0, 0, 0], [1, 2, 0]])


def test_raw_features_by_hand() -> None:
    features = FeatureList(
        tuple(f for f in recall_data().config().features if f.kind is Kind.MULTI)
    )
    raw = raw_features(
        features,
        {
            "interests": tf.constant([["", "a", "b", "c"], ["d", "", "", ""]]),
            "tags": tf.constant([["p", "", "q"], ["", "", ""]]),
            "tags_weights": tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        },
    )
    assert raw["interests"].values.numpy().tolist() == [b"a", b"b", b"d"]  # at most 2 of each
    assert raw["interests"].indices.numpy().tolist() == [[0, 0], [0, 1], [1, 0]]
    assert raw["tags"].values.numpy().tolist() == [b"p", b"q"]
    assert raw["tags_weights"].values.numpy().tolist() == [1.0, 3.0]
    np.testing.assert_array_equal(raw["tags_weights"].indices, raw["tags"].indices)


@pytest.mark.parametrize("key", [b"a\nb", b"a\rb", b""])
def test_ids_that_no_line_can_hold(key: bytes, tmp_path: Path) -> None:
    index = ExactIndex()
    index.build(np.ones([3, 2], np.float32))
    shop = recall_data()
    graph = open_transform(shop.data, "query").transform_features_layer()
    parts = Parts(
        features=shop.config().feature_list,
        embed_queries=lambda x: x,
        embed_items=lambda x: x,
        variables=[],
        query_transform=graph,
        item_transform=graph,
        ids=np.array([b"", b"fine", key], object),
        index=index,
        k=1,
        max_k=2,
        max_batch=64,
        preference_dim=2,
    )
    with pytest.raises(LongtailError, match="expected ids on one line"):
        RecallModule(parts, tmp_path)
