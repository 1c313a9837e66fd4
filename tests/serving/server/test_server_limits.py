"""A real server process against many connections, slow ones and large ones."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import tensorflow as tf

from preprocessing.base.errors import LongtailError
from serving.server.limits import Limits, Load
from serving.server.run import main
from serving.server.status import StatusError
from tests.serving.conftest import graph
from tests.serving.server.test_server_process import process

pytestmark = pytest.mark.slow
READ_SECONDS, CONNECTIONS, BODY = 3.0, 40, 200_000
LIMITS = {
    "threads": 1, "queue": 2, "read-seconds": READ_SECONDS, "max-connections": CONNECTIONS,
    "max-body-bytes": BODY,
}  # fmt: skip
PATH = "/v1/models/spin:predict"


class Running(NamedTuple):
    """The server, and where it listens."""

    process: Any
    port: int

    def ask(self, turns: int, **options: Any) -> httpx.Response:
        body = {"inputs": turns}
        url = f"http://127.0.0.1:{self.port}{PATH}"
        return httpx.post(url, json=body, timeout=120, trust_env=False, **options)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=120)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A model that multiplies matrices as often as it is asked to."""
    path = tmp_path_factory.mktemp("export") / "spin"
    module = tf.Module()

    @graph([tf.TensorSpec([], tf.int32, "turns")])
    def spin(turns: tf.Tensor) -> dict[str, tf.Tensor]:
        square = tf.linalg.diag(tf.ones([400]))
        _, last = tf.while_loop(
            lambda at, _: at < turns, lambda at, x: (at + 1, x @ x), [tf.constant(0), square]
        )
        return {"trace": tf.linalg.trace(last)}

    tf.saved_model.save(module, str(path / "1"), signatures={"serving_default": spin})
    options = [text for name, value in LIMITS.items() for text in (f"--{name}", str(value))]
    with process(str(path), "--port", "0", *options) as started:
        found = re.search(r"127\.0\.0\.1:(\d+)", started.stdout.readline())
        assert found
        running = Running(started, int(found[1]))
        yield running
        assert running.ask(1).json() == {"outputs": 400.0}  # it has survived everything
        started.send_signal(signal.SIGTERM)
        _, errors = started.communicate(timeout=60)
        assert started.returncode == 0, errors
        assert "Traceback" not in errors


def rest_of(connection: socket.socket) -> bytes:
    """All that still comes, till the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def turns_for(server: Running, seconds: float) -> int:
    """As many as keep the server busy for so long on this machine, whatever else it does."""
    start = time.monotonic()
    server.ask(200)
    return int(200 * seconds / (time.monotonic() - start))


def test_what_does_not_fit_the_queue_is_told_to_come_again(server: Running) -> None:
    body = b'{"inputs":%d}' % turns_for(server, 5.0)
    head = b"POST %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    request = head % (PATH.encode(), len(body)) + body
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(24)]
        for connection in connections:
            connection.sendall(request)
        with ThreadPoolExecutor(len(connections)) as pool:
            found = pool.map(lambda each: (rest_of(each), time.monotonic()), connections)
            answers = [(answer[9:12], answer, at) for answer, at in found]
    counts = Counter(code for code, _, _ in answers)
    # One runs and two wait; should a request come late, after the first is done, it is taken on, too.
    assert set(counts) == {b"200", b"503"}
    assert 3 <= counts[b"200"] <= 5
    for refused in (answer for code, answer, _ in answers if code == b"503"):
        assert b"retry-after: 1" in refused
        assert b"predictions run or wait" in refused
    first, last = (
        min(at for code, _, at in answers if code == wanted) for wanted in (b"503", b"200")
    )
    assert first < last
    assert server.ask(1).status_code == 200


@pytest.mark.parametrize("start", [b"", b"POST /v1/mod", b"GET / HTTP/1.1\r\nhost: x\r\nx-y: "])
def test_a_head_that_never_ends_is_not_waited_for(server: Running, start: bytes) -> None:
    with server.connect() as slow:
        begun = time.monotonic()
        slow.sendall(start)
        slow.settimeout(0.2)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while True:
                with contextlib.suppress(TimeoutError):
                    if slow.recv(100) == b"":
                        break
                assert time.monotonic() - begun < 20 * READ_SECONDS
                if start:
                    slow.sendall(b"a")
        assert time.monotonic() - begun >= READ_SECONDS - 0.5


def test_a_head_after_an_answer_is_not_waited_for_either(server: Running) -> None:
    with server.connect() as slow:
        slow.sendall(b"GET /v1/models/spin HTTP/1.1\r\nhost: x\r\n\r\n")
        assert slow.recv(65536).startswith(b"HTTP/1.1 200")
        slow.sendall(b"GET /v1/mo")
        assert b"HTTP/1.1" not in rest_of(slow)


def test_a_head_without_end_is_not_kept(server: Running) -> None:
    with server.connect() as long, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for _ in range(1000):
            long.sendall(b"x" * 100_000)
        pytest.fail("100 MB of a head were taken")


@pytest.mark.parametrize("head", [b"content-length: 1000\r\n", b"transfer-encoding: chunked\r\n"])
def test_a_body_that_never_ends_is_not_waited_for(server: Running, head: bytes) -> None:
    with server.connect() as slow:
        slow.sendall(b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n")
        begun = time.monotonic()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while time.monotonic() - begun < READ_SECONDS / 2:
                slow.sendall(b"1\r\n \r\n" if b"chunked" in head else b" ")
                time.sleep(0.1)
        answer = rest_of(slow)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within 3 s" in answer
    assert b"connection: close" in answer.lower()


def test_large_bodies(server: Running) -> None:
    url = f"http://127.0.0.1:{server.port}{PATH}"
    with httpx.Client(timeout=60, trust_env=False) as client:
        assert client.post(url, content=b" " * (BODY + 1)).status_code == 413
        parts = (b" " * 10_000 for _ in range(BODY // 10_000 + 1))
        assert client.post(url, content=parts).status_code == 413
        assert client.post(url, content=b'{"inputs":1' + b" " * (BODY - 20) + b"}").json()


def test_tiny_chunks(server: Running) -> None:
    text = b'{"inputs":1' + b" " * 20_000 + b"}"
    with server.connect() as connection:
        head = b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in text)
        connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert rest_of(connection).startswith(b"HTTP/1.1 200")


def test_one_connection_too_many_is_told(server: Running) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(CONNECTIONS + 5)]
        answers = [rest_of(connection) for connection in idle[-5:]]
        for answer in answers:
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"retry-after: 1" in answer
            assert b"too many connections" in answer
        # The others are let go of because nothing comes.
        assert [rest_of(connection) for connection in idle[:-5]] == [b""] * CONNECTIONS


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--queue", "-1"], "--queue: expected 0 or more, received -1"),
        (["--threads", "0"], "--threads: expected 1 or more, received 0"),
        (["--read-seconds", "nan"], "--read-seconds: expected 1 or more, received nan"),
        (["--max-connections", "0"], "--max-connections: expected 1 or more, received 0"),
    ],
)
def test_impossible_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str], message: str
) -> None:
    (tmp_path / "1").mkdir()
    assert main([str(tmp_path), *option]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_load_by_hand() -> None:
    load = Load(Limits(threads=1, queue=1, max_body_bytes=10))
    with load.prediction(), load.prediction():
        with pytest.raises(StatusError, match="2 predictions run or wait") as caught:
            load.check()
        assert caught.value.http_status == 503
    load.check()
    with load.body() as first:
        first.add(10)
        with load.body() as second:
            second.add(10)
            with pytest.raises(StatusError, match="bodies of 20 bytes are being read"):
                second.add(1)
        with load.body() as third:
            third.add(10)
    with pytest.raises(LongtailError, match="--queue: expected 0 or more"):
        Limits(queue=-1).validate()


def test_counts_are_given_back() -> None:
    load = Load(Limits(threads=1, queue=0, max_body_bytes=10))
    for _ in range(3):
        with contextlib.suppress(ZeroDivisionError), load.body() as body, load.prediction():
            body.add(20)
            1 // 0  # noqa: B018
    load.check()
