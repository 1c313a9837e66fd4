"""The embedded server: `python -m serving.server EXPORT_DIR` answers like TF Serving's REST API."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

import preprocessing.base.quiet  # noqa: F401  before anything that imports TensorFlow
from preprocessing.base.errors import LongtailError
from preprocessing.base.optional import require
from serving.export.folder import check_export_dir
from serving.server.limits import Limits
from serving.server.versions import LOG, ModelVersions
from serving.signature_inputs import neutral_inputs

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8501
_UNREAD_MILLISECONDS = 30_000


def serve(
    export_dir: str | os.PathLike[str],
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    model_name: str | None = None,
    *,
    poll_seconds: float = 2.0,
    limits: Limits | None = None,
) -> None:
    """Serves the newest version in `export_dir` until SIGTERM or SIGINT, then ends the process.

    Args:
      export_dir: a folder with numbered versions, such as `export/recall`.
      host: the address to listen on; others than loopback let the network in, unauthenticated.
      port: 0 takes a free one, which is printed.
      model_name: in the URL; the folder's name by default.
      poll_seconds: how often to look for new versions.
      limits: what it takes on at once.

    Raises: `LongtailError` for an unusable folder or address, `LongtailFailure` if no version can
      be loaded, `SystemExit(0)` after a signal.
    """
    check_export_dir(export_dir)
    if not poll_seconds > 0:
        raise LongtailError(f"expected a polling interval above 0 s, received {poll_seconds:g}")
    limits = limits or Limits()
    limits.validate()
    with contextlib.closing(_listen(host, port)) as listener, _exit_on_signals(), _log_to_stderr():
        # The slow imports come after everything that can be wrong with the arguments.
        uvicorn = require("uvicorn", "serving")
        require("fastapi", "serving")
        require("rapidjson", "serving")
        require("httptools", "serving")
        from serving.server.connections import bounded
        from serving.server.rest import create_app

        versions = ModelVersions(export_dir, model_name, poll_seconds=poll_seconds)
        try:
            versions.start()
            # What TensorFlow's modules hold stays: looking through it for garbage again and again
            # took longer than reading a large request.
            gc.freeze()
            app = create_app({versions.name: versions}, limits)
            config = uvicorn.Config(
                app,
                http=bounded(limits),
                ws="none",
                log_level="warning",
                access_log=False,
                timeout_keep_alive=75,  # longer than clients keep theirs, so that these close first
                timeout_graceful_shutdown=10,
            )
            _announce(versions, listener)
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            versions.stop()


@contextlib.contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Shows the changes of versions; not the root logger's business, where TensorFlow chats.

    A handler that outlived the server would write to the stderr of that time, closed or not.
    """
    handler, level = logging.StreamHandler(), LOG.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise LongtailError(f"expected a port from 0 to 65535, received {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        # create_server appends the address to strerror; a name that has none has a negative errno.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or error
        raise LongtailError(
            f"expected a free address to listen on, received {host}:{port}: {reason}; "
            "choose another with --port or --host"
        ) from error
    # Connections inherit it. Without it the head and the body of an answer, two writes, meet the
    # client's delayed acknowledgement: 40 ms a call (asyncio sets it for sockets of its own only).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A client that does not take its answer would hold the connection for ever.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MILLISECONDS)
    return listener


@contextlib.contextmanager
def _exit_on_signals() -> Iterator[None]:
    """SIGTERM and SIGINT end the process with 0, while loading too.

    uvicorn takes them over while it runs, finishes the open requests and raises them again, here.
    """

    def stop(signum: int, frame: object) -> NoReturn:
        raise SystemExit(0)

    handlers = {signum: signal.signal(signum, stop) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def _announce(versions: ModelVersions, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    with versions.use() as lease:
        default = lease.servable.metadata().get("serving_default", {"inputs": {}})
        print(f"serving {versions.name} version {lease.version} at {url}/v1/models/{versions.name}")
    example = json.dumps({"inputs": neutral_inputs(default["inputs"])})
    print(f"try: curl -d '{example}' {url}/v1/models/{versions.name}:predict")
    print("stop: Ctrl-C", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 stopped, 2 bad usage or input, 1 failure."""
    parser = argparse.ArgumentParser(prog="python -m serving.server", description=__doc__)
    parser.add_argument("export_dir", help="a folder with numbered versions: export/<model>")
    parser.add_argument("--host", default=DEFAULT_HOST, help="default: %(default)s")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="default: %(default)s")
    parser.add_argument("--model", help="its name in the URL; default: the folder's name")
    parser.add_argument("--poll-seconds", type=float, default=2.0, help="default: %(default)s")
    for field in dataclasses.fields(Limits):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default,
                            help=f"{field.metadata['help']}; default: %(default)s")  # fmt: skip
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(arguments)
    limits = Limits(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Limits)})
    place = (args.export_dir, args.host, args.port, args.model)
    try:
        serve(*place, poll_seconds=args.poll_seconds, limits=limits)
    except LongtailError as error:
        if args.debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0
