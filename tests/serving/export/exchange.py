"""One side of an exchange of exports between two stacks: ``python -m tests.serving.export.exchange make|answer DIR``.

``make`` exports the small shop into DIR and keeps requests and answers beside it; ``answer`` loads the export of DIR
and writes its own answers. Beyond that the two share nothing but the folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.base.artifacts import library_versions
from serving.export import check
from serving.export.folder import version_paths
from serving.export.run import export
from serving.export.sample_requests import (
    item_arrays,
    no_exclusions,
    query_arrays,
    read_items,
    read_queries,
)
from serving.server.servable import Servable
from tests.serving.recall_data import QUIET, recall_data


def make(directory: Path) -> None:
    """The export, ``requests.json``, ``answers.json`` and the versions that made them."""
    shop = recall_data()
    features = shop.config().feature_list
    check._SECONDS = 0.05  # latencies are measured, and of no interest here
    export(shop.config(), shop.data, shop.model, directory / "export", console=QUIET)
    queries = read_queries(shop.data)
    # A missing number cannot be padded: only items with a price go into one batch.
    items = [item for item in read_items(shop.data).raw if item.get("price")]
    requests = {
        "serving_default": {
            **query_arrays(queries, features),
            "exclude": no_exclusions(len(queries)),
        },
        "embed_item": item_arrays(items, features),
    }
    _write(directory / "requests.json", requests)
    answer(directory, "answers.json")


def answer(directory: Path, name: str = "other_answers.json") -> None:
    """What the export answers here, in a TF1 session as in TF Serving."""
    version = version_paths(directory / "export")[1]
    requests = json.loads((directory / "requests.json").read_text())
    servable = Servable(str(version))
    answers: dict[str, Any] = {"versions": library_versions()}
    for signature, columns in requests.items():
        types = servable.input_types(signature)
        arrays = {
            key: np.array(column, types[key].as_numpy_dtype) for key, column in columns.items()
        }
        answers[signature] = servable.run(signature, arrays)
    servable.close()
    _write(directory / name, answers)


def _write(path: Path, document: dict[str, Any]) -> None:
    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else value.decode()

    path.write_text(json.dumps(document, default=plain))


if __name__ == "__main__":
    {"make": make, "answer": answer}[sys.argv[1]](Path(sys.argv[2]))
