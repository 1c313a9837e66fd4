"""Small real SavedModels, and the application that serves them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tensorflow as tf
import uvicorn
from fastapi import FastAPI

from serving.server.limits import Limits
from serving.server.rest import create_app
from serving.server.versions import ModelVersions

Call = Callable[..., httpx.Response]
STRINGS, FLOATS = tf.string, tf.float32


def graph(specs: list[Any]) -> Callable[[Any], Any]:
    """A typed `tf.function`."""
    compiled: Callable[[Any], Any] = tf.function(input_signature=specs)
    return compiled


def _save(module: tf.Module, path: Path, **signatures: Any) -> Path:
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


def _save_linear(path: Path, factor: float = 1.0) -> Path:
    """One input, one output: y = factor * (sum, sum) of the four numbers of each row."""
    module = tf.Module()
    module.weights = tf.Variable(factor * tf.ones([4, 2]))

    @graph([tf.TensorSpec([None, 4], FLOATS, "x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.matmul(x, module.weights)}

    return _save(module, path, serving_default=predict)


def _save_two(path: Path) -> Path:
    """Two inputs, two outputs."""
    module = tf.Module()

    @graph([tf.TensorSpec([None], STRINGS, "uid"), tf.TensorSpec([None], FLOATS, "x")])
    def predict(uid: tf.Tensor, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"name": tf.strings.join([uid, "!"]), "twice": 2.0 * x}

    return _save(module, path, serving_default=predict)


def _save_echo(path: Path) -> Path:
    """Gives back what it gets, for each dtype, of any shape."""
    module = tf.Module()

    def echo(dtype: tf.DType, output: str = "same") -> Any:
        @graph([tf.TensorSpec(None, dtype, "value")])
        def same(value: tf.Tensor) -> dict[str, tf.Tensor]:
            return {output: tf.identity(value)}

        return same

    dtypes = [tf.float32, tf.float64, tf.int8, tf.int32, tf.int64, tf.uint64, tf.bool, tf.float16]
    named = {dtype.name: echo(dtype) for dtype in dtypes}

    @graph([tf.TensorSpec(None, FLOATS, "value")])
    def half(value: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"half": tf.cast(value, tf.float16)}

    binary = echo(STRINGS, "image_bytes")
    return _save(module, path, serving_default=echo(STRINGS), binary=binary, to_half=half, **named)


def _save_recall(path: Path) -> Path:
    """Ten items i0 .. i9; item j scores 10 - j, and 100 more if the history holds it.

    It takes 5 queries at once, and 15 items in all lists of an answer, in the words of an export.
    """
    module = tf.Module()
    items = tf.constant([f"i{j}" for j in range(10)])
    base = tf.constant([10.0 - j for j in range(10)])

    def search(history: tf.Tensor, exclude: tf.Tensor, age: tf.Tensor, k: Any) -> Any:
        tf.debugging.assert_non_negative(age)
        rows = tf.shape(history)[0]
        several = ": send several requests"
        for asked, most, what in (
            (rows, 5, "examples a request"),
            (rows * k, 15, "items in all lists of an answer"),
        ):
            text = f"expected at most {most} {what}, received"
            tf.debugging.Assert(asked <= most, [text, asked, several])
        seen = tf.reduce_any(history[:, :, None] == items, axis=1)
        banned = tf.reduce_any(exclude[:, :, None] == items, axis=1)
        scores = base + 100.0 * tf.cast(seen, FLOATS)
        scores = tf.where(banned, -float("inf"), scores)
        scores, indices = tf.math.top_k(scores, k)
        ids = tf.where(tf.math.is_inf(scores), "", tf.gather(items, indices))
        return {"item_ids": ids, "scores": scores}

    features = [
        tf.TensorSpec([None, 1], STRINGS, "user_id"),
        tf.TensorSpec([None, 1], FLOATS, "age"),
        tf.TensorSpec([None, None], STRINGS, "history"),
        tf.TensorSpec([None, None], STRINGS, "exclude"),
    ]

    @graph(features)
    def default(user_id: Any, age: Any, history: Any, exclude: Any) -> Any:
        return search(history, exclude, age, 3)

    @graph([*features, tf.TensorSpec([], tf.int32, "k")])
    def recommend(user_id: Any, age: Any, history: Any, exclude: Any, k: Any) -> Any:
        return search(history, exclude, age, k)

    return _save(module, path, serving_default=default, recommend=recommend)


@pytest.fixture(scope="session")
def export_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models linear, two, echo and recall, each as version 1."""
    root = tmp_path_factory.mktemp("export")
    _save_linear(root / "linear" / "1")
    _save_two(root / "two" / "1")
    _save_echo(root / "echo" / "1")
    _save_recall(root / "recall" / "1")
    return root


@pytest.fixture(scope="session")
def app(export_dir: Path) -> Iterator[FastAPI]:
    models = {path.name: ModelVersions(str(path)) for path in export_dir.iterdir()}
    for versions in models.values():
        versions.start()
    yield create_app(models, Limits(max_body_bytes=100_000, threads=4))
    for versions in models.values():
        versions.stop()


def _request(app: FastAPI, method: str, path: str, content: Any = None) -> httpx.Response:
    """One request to the application, without a network."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, content=content)

    return asyncio.run(send())


@pytest.fixture(scope="session")
def call(app: FastAPI) -> Call:
    return lambda method, path, content=None: _request(app, method, path, content)


@contextlib.contextmanager
def listening(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The address of an application behind a real socket."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def url(app: FastAPI) -> Iterator[str]:
    """The address of the application behind a real socket."""
    with listening(app) as address:
        yield address


@pytest.fixture(scope="session")
def save_linear() -> Callable[..., Path]:
    """Writes the model linear, whose answers are multiplied by `factor`, to a folder."""
    return _save_linear


@pytest.fixture(scope="session")
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Waits until a condition holds, and fails if it never does."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 300.0  # a busy machine: many times what it takes
        while not condition():
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.02)

    return wait


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # Loopback must not go through a proxy of the environment.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    caplog.set_level(logging.INFO, "longtail.serving")
