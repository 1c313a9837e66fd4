"""The inputs of a signature, from its metadata: of queries, and of one query that says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preprocessing.base.errors import LongtailError

# The scalar input of the signature `recommend`.
K = "k"


def columns(
    queries: Sequence[Mapping[str, Any]], infos: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The queries as columnar inputs of the shapes that the signature's metadata gives.

    Args:
      queries: raw features by name.
      infos: the inputs of the signature as in TF Serving's metadata.
    Returns: by input, `[batch]` or `[batch, n]`; strings are padded with "" to the longest.
    Raises: `LongtailError` for an unknown or missing feature or a wrong number of values.
    """
    for row, query in enumerate(queries):
        # A model without a history layer is asked in the same words.
        unknown = sorted(set(query) - set(infos) - {"history"})
        if unknown:
            known = ", ".join(sorted(infos))
            raise LongtailError(f"query {row}: expected features among {known}; received {unknown}")
    return {name: _column(name, info, queries) for name, info in infos.items()}


def _column(name: str, info: Mapping[str, Any], queries: Sequence[Mapping[str, Any]]) -> list[Any]:
    shape, text = _shape(info), info["dtype"] == "DT_STRING"
    rows: list[list[Any]] = []
    for query in queries:
        value = query.get(name)
        value = [] if value is None else value
        rows.append(list(value) if isinstance(value, (list, tuple)) else [value])
    width = 1 if len(shape) < 2 else shape[1] if shape[1] >= 0 else max(map(len, rows))
    if text:
        width = max(width, 1)  # [[""]] says none; not every op can cope with no column
    source = "signature" if len(shape) < 2 or shape[1] >= 0 else "other queries"
    for row, values in enumerate(rows):
        if len(values) > width or (len(values) < width and not text):
            raise LongtailError(
                f"query {row}: expected {width} {'values' if text else 'numbers'} for {name}, "
                f"as in the {source}, received {len(values)}"
            )
        values += [""] * (width - len(values))
    return [values[0] for values in rows] if len(shape) < 2 else rows


def neutral_inputs(infos: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Inputs for one query that says nothing: empty strings, zeros, and 1 for a scalar `k`."""
    inputs: dict[str, Any] = {}
    for name, info in infos.items():
        value: Any = {"DT_STRING": "", "DT_BOOL": False}.get(info["dtype"], int(name == K))
        for size in reversed(_shape(info)):
            value = [value] * max(size, 1)
        inputs[name] = value
    return inputs


def _shape(info: Mapping[str, Any]) -> list[int]:
    return [int(dim["size"]) for dim in info["tensor_shape"].get("dim", ())]
