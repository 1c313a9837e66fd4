"""A server process on a free loopback port for as long as a block runs."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from preprocessing.errors import LongtailFailure
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
    command = [sys.executable, "-m", "serving.server", str(export_dir), "--port", str(port), "--model", export_dir.name]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        client = RecallClient(f"http://127.0.0.1:{port}", export_dir.name)
        with console.status("starting the server"):
            try:
                client.wait_ready(_READY_SECONDS)
            except Exception as error:
                process.terminate()
                said = (process.communicate()[1] or str(error)).strip().splitlines()
                raise LongtailFailure(f"the server did not start: {said[-1] if said else error}") from error
        yield client
    finally:
        process.terminate()
        process.communicate()
