"""What a job finds out, from its workers to the program that started it."""

from __future__ import annotations

import pickle
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems


class WriteResult(beam.DoFn):
    """Writes a result for the program that started the job; the last one written counts."""

    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, element: Any) -> None:
        """Pickles the element."""
        with FileSystems.create(self._path) as out:
            out.write(pickle.dumps(element))


def read_result(path: str) -> Any:
    """What ``WriteResult`` wrote."""
    with FileSystems.open(path) as stream:
        return pickle.loads(stream.read())
