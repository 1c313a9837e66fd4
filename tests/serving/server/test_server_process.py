"""`python -m serving.server` as a process: answers, new versions, stop, and bad arguments."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from serving.client import RecallClient
from serving.server.run import main
from serving.server.versions import LOG

Save = Callable[..., Path]
Wait = Callable[[Callable[[], bool]], None]
ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    command = [sys.executable, "-m", "serving.server", *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            yield server
        finally:
            server.kill()


@pytest.mark.slow
def test_serves_new_versions_until_a_signal(
    tmp_path: Path, save_linear: Save, wait_for: Wait
) -> None:
    base = tmp_path / "linear"
    save_linear(base / "1")
    with process(str(base), "--port", "0", "--poll-seconds", "0.1") as server:
        assert server.stdout is not None
        first = server.stdout.readline()
        found = re.fullmatch(
            r"serving linear version 1 at (http://127\.0\.0\.1:\d+)/v1/models/linear\n", first
        )
        assert found, server.communicate()
        example = server.stdout.readline()
        url = found[1]
        body = re.search(r"curl -d '(.*)' ", example)
        assert body
        response = httpx.post(f"{url}/v1/models/linear:predict", content=body[1])
        assert response.json() == {"outputs": [[0.0, 0.0]]}
        with RecallClient(url, "linear") as client:
            client.wait_ready(300)
            save_linear(base / ".tmp-2", factor=2.0).rename(base / "2")
            wait_for(lambda: client.predict(instances=[[1, 1, 1, 1]]) == [[8.0, 8.0]])
            (base / "3").mkdir()
            (base / "3" / "saved_model.pb").write_bytes(b"broken")
            wait_for(lambda: client.status()[0]["version"] == "3")
            assert client.status()[0]["state"] == "LOADING"
            assert client.predict(instances=[[1, 1, 1, 1]]) == [[8.0, 8.0]]
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=300)
        assert server.returncode == 0, errors
        assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_loading_ends_it(
    tmp_path: Path, save_linear: Save, wait_for: Wait, stop: signal.Signals
) -> None:
    save_linear(tmp_path / "m" / "1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with process(str(tmp_path / "m"), "--port", str(port)) as server:

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        wait_for(listens)  # TensorFlow is imported after the port is taken
        server.send_signal(stop)
        _, errors = server.communicate(timeout=300)
        assert server.returncode == 0, errors


@pytest.mark.slow
def test_bad_folder_is_told_by_the_process(tmp_path: Path) -> None:
    with process(str(tmp_path)) as server:
        output, errors = server.communicate(timeout=300)
    assert server.returncode == 2
    assert output == ""
    assert errors.startswith(f"error: {tmp_path}: expected a folder with numbered versions")
    assert errors.count("\n") == 1


def test_port_that_is_taken(export_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(export_dir / "linear"), "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"error: expected a free address to listen on, received 127.0.0.1:{port}: Address already "
        "in use; choose another with --port or --host\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "expected a port from 0 to 65535, received 70000"),
        (["--poll-seconds", "0"], "expected a polling interval above 0 s, received 0"),
        (["--host", "no.such.host.invalid"], "received no.such.host.invalid:8501"),
    ],
)
def test_bad_options(
    export_dir: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([str(export_dir / "linear"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nope")]) == 2
    assert "received no such folder" in capsys.readouterr().err
    assert main([str(tmp_path / "nope"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_version_that_does_not_load_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1").mkdir()
    assert main([str(tmp_path), "--port", "0"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: no version of {tmp_path} can be loaded (version 1: UNKNOWN: ")
    assert not LOG.handlers  # another server of this process logs to the stderr of its own time
