"""The client against the application behind a socket, and its columns by themselves."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.base.errors import LongtailError
from serving.client import RecallClient, ServingError
from serving.server.limits import Load
from serving.server.status import StatusError
from serving.signature_inputs import columns, neutral_inputs
from serving.transport import _retry_after
from tests.serving.conftest import listening


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


MANY = [{"age": n, "history": [f"i{n % 10}"], "exclude": ["i0"] * (n % 3)} for n in range(13)]


@pytest.mark.parametrize(("k", "sizes"), [(None, [13, 5, 5, 3]), (5, [13, 5, 3, 3, 3, 3, 1])])
def test_more_queries_than_the_model_takes_at_once(
    client: RecallClient, k: int | None, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model takes 5 queries and 15 items; both limits are learned from what it says."""
    one_by_one = [client.recommend([query], k)[0] for query in MANY]
    asked: list[int] = []
    predict = client.predict

    def counted(signature: str, *, inputs: Any) -> Any:
        asked.append(len(inputs["age"]))
        return predict(signature, inputs=inputs)

    monkeypatch.setattr(client, "predict", counted)
    assert client.recommend(MANY, k) == one_by_one
    assert asked == sizes
    asked.clear()
    assert client.recommend(MANY, k) == one_by_one
    assert asked == [size for size in sizes if size <= (5 if k is None else 3)]


def test_a_client_that_knows_what_the_model_takes(url: str) -> None:
    with RecallClient(url, "recall", max_batch=4) as client:
        assert client._limits.rows(None) == 4
        assert len(client.recommend(MANY)) == 13
        assert client._limits.rows(None) == 4  # no refusal told of 5
    with pytest.raises(LongtailError, match="expected max_batch of at least 1, received 0"):
        RecallClient(url, "recall", max_batch=0)


def test_a_bad_query_of_a_later_request_is_named_before_anything_is_asked(
    client: RecallClient,
) -> None:
    with pytest.raises(LongtailError, match="query 12: expected 1 numbers for age"):
        client.recommend([*MANY[:12], {"age": [1, 2]}])
    with pytest.raises(ServingError, match=r"HTTP 400: .*did not hold"):
        client.recommend([*MANY, {"age": -1}])


class Pauses(list[float]):
    """Instead of sleeping: notes for how long, and does `then`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.then: Callable[[], Any] = lambda: None
        monkeypatch.setattr("serving.transport.sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.append(seconds)
        self.then()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    return Pauses(monkeypatch)


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets the server find so many times that its queue is full."""
    left: list[int] = []

    def check(load: Load) -> None:
        if left:
            left.pop()
            raise StatusError("UNAVAILABLE", "predictions run or wait")

    monkeypatch.setattr(Load, "check", check)
    return lambda times: left.extend(range(times))


def test_a_full_server_is_asked_again(
    client: RecallClient, refuse: Callable[[int], None], pauses: Pauses
) -> None:
    refuse(3)
    assert client.recommend([{"age": 1}], k=1) == [[("i0", 10.0)]]
    # What the server asked for, 1 s, and half to all of 0.2, 0.4, 0.8 s.
    assert len(pauses) == 3
    assert all(0.1 * 2**n <= pause - 1.0 <= 0.2 * 2**n for n, pause in enumerate(pauses))


def test_a_server_that_stays_full(url: str, refuse: Callable[[int], None], pauses: Pauses) -> None:
    refuse(100)
    for retries in (3, 0):
        with RecallClient(url, "recall", retries=retries) as client:
            pauses.clear()
            with pytest.raises(
                ServingError, match=r"HTTP 503: .*predictions run or wait"
            ) as caught:
                client.predict(inputs={})
            assert (caught.value.status, caught.value.retry_after) == (503, 1.0)
            assert len(pauses) == retries


def test_no_pause_goes_beyond_the_timeout(
    url: str, refuse: Callable[[int], None], pauses: Pauses
) -> None:
    refuse(100)
    with (
        RecallClient(url, "recall", timeout=1.0) as client,
        pytest.raises(ServingError, match="HTTP 503"),
    ):
        client.predict(inputs={})
    assert pauses == []


def test_other_refusals_are_not_asked_again(client: RecallClient, pauses: Pauses) -> None:
    with pytest.raises(ServingError, match="HTTP 400") as caught:
        client.predict(inputs={})
    assert caught.value.retry_after is None
    with (
        pytest.raises(ServingError, match="not ready after 0 s"),
        RecallClient("http://127.0.0.1:1", "m") as nobody,
    ):
        nobody.wait_ready(0.0)  # it asks again by itself
    assert pauses == []


def test_a_server_that_starts_late(app: FastAPI, pauses: Pauses) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with contextlib.ExitStack() as stack:

        def start() -> None:
            if len(pauses) == 2:
                stack.enter_context(listening(app, port))

        pauses.then = start
        client = stack.enter_context(RecallClient(f"http://127.0.0.1:{port}", "recall"))
        assert client.recommend([{"age": 1}], k=1) == [[("i0", 10.0)]]
    first, second = pauses
    assert 0.1 <= first <= 0.2 <= second <= 0.4


ANSWER = b'{"model_version_status": []}'
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)


@pytest.mark.parametrize("said", [b"", WHOLE[:20], WHOLE[:-5]], ids=["nothing", "half", "most"])
@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_breaks_before_the_answer(
    said: bytes, reset: bool, pauses: Pauses
) -> None:
    def serve(listener: socket.socket) -> None:
        for answer in (said, WHOLE):
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)
                if reset and answer is said:
                    now = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        RecallClient(f"http://127.0.0.1:{listener.getsockname()[1]}", "recall") as client,
    ):
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        assert client.status() == []
        thread.join()
    assert len(pauses) == 1


@pytest.mark.parametrize(
    ("status", "header", "expected"),
    [
        (503, {"retry-after": "7"}, 7.0),
        (503, {}, 0.0),  # TF Serving's
        (503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        (429, {"retry-after": "7"}, None),
        (500, {}, None),
    ],
)
def test_when_to_come_again(status: int, header: dict[str, str], expected: float | None) -> None:
    assert _retry_after(httpx.Response(status, headers=header)) == expected


@pytest.mark.parametrize("options", [{"retries": -1}, {"timeout": 0.0}, {"timeout": float("nan")}])
def test_impossible_patience(options: dict[str, Any]) -> None:
    with pytest.raises(LongtailError, match="expected a timeout above 0 s and no negative number"):
        RecallClient("http://127.0.0.1:1", "m", **options)


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


def test_no_server(pauses: Pauses) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = RecallClient(f"http://127.0.0.1:{port}", "m")
    with client, pytest.raises(ServingError, match=r"no answer from .*; is the server") as caught:
        client.status()
    assert caught.value.status == 0
    assert len(pauses) == 3


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
