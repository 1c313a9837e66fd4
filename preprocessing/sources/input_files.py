"""The files that a path of the configuration means, and how they are opened; whatever goes wrong names the file.

A path is a file, a pattern (``*``, ``?``, ``[ab]``, ``**`` for folders of any depth) or a folder, of which the files
are read that do not begin with ``_`` or ``.``: what Spark, Hive or BigQuery write. A file or folder of exactly that
name comes before what its characters mean in a pattern, in every part of the path.
"""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import COMPRESSED, is_pattern, is_remote

_HIDDEN = ("_", ".")


def find_files(path: str) -> list[str]:
    """The files that a path means, each once, sorted.

    Raises:
      LongtailError: there is none, or a folder is divided into folders.
    """
    with reading(path):
        found = _remote(path) if is_remote(path) else _local(path)
    if not found:
        raise LongtailError(
            f"no file matches {path}: give an existing file, folder or pattern in the 'data' section"
        )
    # A pattern may mean a folder and what lies in it.
    return sorted({os.path.normpath(each): each for each in found}.values())


def state(path: str) -> list[object]:
    """Name, size and time of change of a file: what tells a changed input without reading it."""
    with reading(path):
        if not is_remote(path):
            stat = os.stat(path)
            return [path, stat.st_size, stat.st_mtime]
        from apache_beam.io.filesystems import FileSystems  # files of this machine need no Beam

        (meta,) = FileSystems.match([path])[0].metadata_list
        return [path, meta.size_in_bytes, meta.last_updated_in_seconds]


def size(path: str) -> int:
    """Bytes of a file as they lie there."""
    found = state(path)[1]
    assert isinstance(found, int)
    return found


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed by its ending.

    Raises:
      LongtailError: it cannot be read.
    """
    with reading(path), raw(path) as stream:
        if path.endswith(".gz"):
            with gzip.open(stream) as plain:
                yield plain  # type: ignore[misc]  # has all of IO[bytes] that is used
        elif path.endswith(".bz2"):
            with bz2.open(stream) as plain:
                yield plain
        elif path.endswith(".zst"):
            with pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd") as plain:
                yield plain
        else:
            yield stream


@contextmanager
def raw(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file as they lie there."""
    with reading(path):
        if is_remote(path):
            from apache_beam.io.filesystem import CompressionTypes
            from apache_beam.io.filesystems import FileSystems

            stream = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
        else:
            stream = open(path, "rb")  # noqa: SIM115  closed below
    with stream:
        yield stream


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Says of every failure of a file system or a library that it is this input's."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LongtailError(
            f"{path}: the compressed data are cut off or damaged ({error}): copy the file again"
        ) from error
    except OSError as error:
        compressed = " (the compressed data are cut off or damaged)"
        hint = compressed if error.errno is None and path.endswith(COMPRESSED) else ""
        raise LongtailError(
            f"cannot read {path}: {error.strerror or _line(error)}{hint}"
        ) from error
    except pa.ArrowException as error:
        raise LongtailError(f"cannot read {path}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _local(path: str) -> list[str]:
    if os.path.lexists(path):
        return _parts(path)
    anchor = Path(path).anchor
    parts = path[len(anchor) :].split("/")
    return [part for each in _expand(anchor, parts) for part in _parts(each)]


def _expand(base: str, parts: list[str]) -> Iterator[str]:
    """The existing paths below ``base`` that the parts of a pattern mean."""
    if not parts:
        yield base
        return
    part, rest = parts[0], parts[1:]
    if not is_pattern(part) or os.path.lexists(os.path.join(base, part)):
        place = os.path.join(base, part)
        if os.path.lexists(place):
            yield from _expand(place, rest)
    elif part == "**":
        for folder, inner, _ in os.walk(base or "."):
            inner[:] = [name for name in inner if not name.startswith(_HIDDEN)]
            yield from _expand(folder if base else os.path.relpath(folder), rest)
    elif os.path.isdir(base or "."):
        for name in os.listdir(base or "."):
            is_meant = part.startswith(_HIDDEN) or not name.startswith(_HIDDEN)
            if is_meant and fnmatch.fnmatchcase(name, part):
                yield from _expand(os.path.join(base, name), rest)


def _parts(path: str) -> list[str]:
    """A file, or the files of a folder."""
    if not os.path.isdir(path):
        return [path]
    found = []
    for name in sorted(os.listdir(path)):
        place = os.path.join(path, name)
        if name.startswith(_HIDDEN):
            continue
        if os.path.isdir(place):
            key, is_key, _ = name.partition("=")
            why = f"by '{key}', a column that its files do not hold" if is_key else f"as {name}"
            raise LongtailError(
                f"{path} is divided into folders ({why}): write it without partitions, or give the files, "
                f"e.g. {os.path.join(path, '*', '*')}"
            )
        found.append(place)
    if not found:
        raise LongtailError(f"{path} is a folder without files of data")
    return found


def _remote(path: str) -> list[str]:
    from apache_beam.io.filesystems import FileSystems

    try:
        if FileSystems.exists(path) and not path.endswith("/"):
            return [path]
        found = [m.path for match in FileSystems.match([path]) for m in match.metadata_list]
        if not found:
            folder = FileSystems.match([path.rstrip("/") + "/*"])
            found = [m.path for match in folder for m in match.metadata_list]
    except Exception as error:
        raise LongtailError(f"cannot look for {path}: {_line(error)}") from error
    own = path.rstrip("/").rpartition("/")[2]
    names = [(p, p.rpartition("/")[2]) for p in found if not p.endswith("/")]
    return [p for p, name in names if own.startswith(_HIDDEN) or not name.startswith(_HIDDEN)]
