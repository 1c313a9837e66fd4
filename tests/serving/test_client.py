"""The client against the application behind a socket, and its columns by themselves."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.errors import LongtailError
from serving.client import RecallClient, ServingError
from serving.signature_inputs import columns, neutral_inputs


@pytest.fixture
def client(url: str) -> Iterator[RecallClient]:
    with RecallClient(url, "recall") as client:
        yield client


def test_recommend_pads_and_fills(client: RecallClient) -> None:
    queries = [
        {"user_id": "u1", "age": 30, "history": ["i9", "i8"]},
        {"age": 3.5, "exclude": ["i0"], "history": []},
    ]
    # Item j scores 10 - j, with 100 more if it is in the history.
    assert client.recommend(queries) == [
        [("i8", 102.0), ("i9", 101.0), ("i0", 10.0)],
        [("i1", 9.0), ("i2", 8.0), ("i3", 7.0)],
    ]
    assert client.recommend(queries, k=1) == [[("i8", 102.0)], [("i1", 9.0)]]
    assert client.recommend([]) == []


def test_rows_without_enough_candidates_are_shorter(client: RecallClient) -> None:
    (row,) = client.recommend([{"age": 1, "exclude": [f"i{j}" for j in range(8)]}], k=5)
    assert row == [("i8", 2.0), ("i9", 1.0)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "query 0: expected 1 numbers for age, as in the signature, received 0"),
        ({"age": 1, "agee": 1}, r"query 0: expected features among age, .*; received \['agee'\]"),
        ({"age": [1, 2]}, "query 0: expected 1 numbers for age, as in the signature, received 2"),
        ({"age": float("nan")}, "expected values that JSON can hold"),
    ],
)
def test_queries_that_do_not_fit(client: RecallClient, query: dict[str, Any], message: str) -> None:
    with pytest.raises(LongtailError, match=message) as caught:
        client.recommend([query])
    assert caught.value.exit_code == 2


def test_refusal_of_the_server(client: RecallClient) -> None:
    with pytest.raises(ServingError, match=r"HTTP 400: .*did not hold") as caught:
        client.recommend([{"age": -1}])
    assert caught.value.status == 400
    assert caught.value.exit_code == 1


def test_predict_status_and_metadata(url: str) -> None:
    with RecallClient(url, "linear", version=1) as client:
        assert client.predict(instances=[[1, 1, 1, 1]]) == [[4.0, 4.0]]
        assert client.predict(inputs=[[1, 1, 1, 1]]) == [[4.0, 4.0]]
        assert client.status()[0]["state"] == "AVAILABLE"
        assert "serving_default" in client.metadata()
        with pytest.raises(LongtailError, match="either instances or inputs"):
            client.predict()
        with pytest.raises(LongtailError, match=r"one of the signatures .*, received recommend"):
            client.recommend([{"x": [1, 1, 1, 1]}], k=1)


@pytest.mark.parametrize("model", ["linear", "two", "echo", "recall"])
def test_wait_ready_predicts(url: str, model: str) -> None:
    with RecallClient(url, model) as client:
        client.wait_ready(timeout=300)


def test_wait_ready_gives_the_last_error(url: str) -> None:
    with RecallClient(url, "nope") as client, pytest.raises(ServingError) as caught:
        client.wait_ready(timeout=0.3)
    assert caught.value.status == 404
    assert "not ready after 0.3 s: Servable not found" in caught.value.message


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = RecallClient(f"http://127.0.0.1:{port}", "m")
    with client, pytest.raises(ServingError, match=r"no answer from .*; is the server") as caught:
        client.status()
    assert caught.value.status == 0


def test_unknown_version_and_label(url: str) -> None:
    with RecallClient(url, "recall", version=9) as client, pytest.raises(ServingError) as caught:
        client.recommend([{"age": 1}])
    assert caught.value.status == 404
    with RecallClient(url, "recall", label="a/b") as client, pytest.raises(ServingError) as caught:
        client.predict(inputs={})
    assert caught.value.message == "Unrecognized servable version label: a/b"
    with pytest.raises(LongtailError, match="a version or a label"):
        RecallClient(url, "recall", version=1, label="x")


def info(dtype: str, *sizes: int) -> dict[str, Any]:
    return {"dtype": dtype, "tensor_shape": {"dim": [{"size": str(size)} for size in sizes]}}


@settings(deadline=None)
@given(st.lists(st.lists(st.text(min_size=1), max_size=5), min_size=1, max_size=5))
def test_columns_are_rectangular_and_hold_the_values(histories: list[list[str]]) -> None:
    queries = [{"history": history} for history in histories]
    (rows,) = columns(queries, {"history": info("DT_STRING", -1, -1)}).values()
    assert len({len(row) for row in rows}) == 1
    assert [[value for value in row if value] for row in rows] == histories


def test_shapes_of_columns() -> None:
    infos = {"flat": info("DT_STRING", -1), "three": info("DT_STRING", -1, 3)}
    assert columns([{"flat": "a", "three": ["b"]}, {}], infos) == {
        "flat": ["a", ""],
        "three": [["b", "", ""], ["", "", ""]],
    }
    numbers = {"x": info("DT_FLOAT", -1, -1)}
    assert columns([{}, {}], numbers) == {"x": [[], []]}
    assert columns([{"x": 1.5, "history": ["a"]}], numbers) == {"x": [[1.5]]}
    with pytest.raises(LongtailError, match="query 1: expected 1 numbers for x, as in the other"):
        columns([{"x": 1}, {}], numbers)
    infos = {"k": info("DT_INT32"), "x": info("DT_FLOAT", -1, 2), "b": info("DT_BOOL", -1)}
    assert neutral_inputs(infos) == {"k": 1, "x": [[0, 0]], "b": [False]}
