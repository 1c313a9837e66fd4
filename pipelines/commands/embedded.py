"""A server process on a free loopback port for as long as a block runs."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console

from preprocessing.base.errors import LongtailError, LongtailFailure
from serving.client import RecallClient

_READY_SECONDS = 120.0


@contextmanager
def server(export_dir: Path, console: Console) -> Iterator[RecallClient]:
    """Serve a folder of versions and give a client that answers already.

    Raises:
      LongtailFailure: the server ended before it answered.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "serving.server",
        str(export_dir),
        "--port",
        str(port),
        "--model",
        export_dir.name,
    ]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, text=True)
        try:
            with RecallClient(f"http://127.0.0.1:{port}", export_dir.name) as client:
                with console.status("starting the server"):
                    _wait(client, process, said)
                yield client
        finally:
            process.terminate()
            process.wait()


def _wait(client: RecallClient, process: subprocess.Popen[str], said: IO[str]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            client.wait_ready(1.0)
            return
        except (LongtailError, OSError) as error:
            if process.poll() is None and time.monotonic() < deadline:
                continue
            said.seek(0)
            lines = said.read().strip().splitlines() or [str(error)]
            raise LongtailFailure(f"the server did not start: {lines[-1]}") from error
