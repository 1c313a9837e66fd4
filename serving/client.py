"""A client for the recommendations of a served model: TF Serving or the embedded server."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from preprocessing.base.errors import LongtailError
from serving.request_limits import MAX_BATCH, RequestLimits
from serving.signature_inputs import K, columns, neutral_inputs
from serving.transport import ServingError as ServingError
from serving.transport import Transport

Recommendations = list[list[tuple[str, float]]]
_RECOMMEND, _DEFAULT = "recommend", "serving_default"
_RETRY_SECONDS = 0.2


class RecallClient:
    """Asks one served model; keeps its connections open and may be shared by threads.

    Args:
      base_url: such as `http://127.0.0.1:8501`.
      model: its name in the URL.
      version, label: which version answers, the newest by default; one of the two at most.
      timeout: seconds for one request, with all its attempts.
      retries: how often a request is sent again that the server has no place for (503; after the
        seconds that it asks for), that finds no server, or whose connection breaks before the
        answer; never beyond `timeout`.
      max_batch: most queries of one request; `recommend` splits what is more, and keeps to less
        where the model takes less.

    Raises: `LongtailError` for a version and a label, or a number that is too small.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 10.0,
        retries: int = 3,
        max_batch: int = MAX_BATCH,
    ) -> None:
        if version is not None and label is not None:
            raise LongtailError(f"expected a version or a label, received {version} and {label!r}")
        if max_batch < 1:
            raise LongtailError(f"expected max_batch of at least 1, received {max_batch}")
        self.base_url = base_url.rstrip("/")
        self._path = f"/v1/models/{quote(model, safe='')}"
        if version is not None:
            self._path += f"/versions/{version}"
        elif label is not None:
            self._path += f"/labels/{quote(label, safe='')}"
        self._transport = Transport(base_url, timeout, retries)
        self._limits = RequestLimits(max_batch)
        self._inputs: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> RecallClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def recommend(
        self, queries: Sequence[Mapping[str, Any]], k: int | None = None
    ) -> Recommendations:
        """The best items for each query, best first, as (item id, score).

        More queries than the model takes at once are asked in several requests.

        Args:
          queries: raw features by name; a value or, for `history`, `exclude` and other features
            with several values, a list. A missing string feature counts as empty, and a missing
            number as none where the signature takes any number of values; within one call either
            all queries have it or none, since no number can pad. `history` is dropped for a model
            that reads none.
          k: how many; the exported number by default. A query with fewer candidates gets fewer.

        Raises: `LongtailError` for a query that does not fit the signature, `ServingError`.
        """
        if not queries:
            return []
        signature = _DEFAULT if k is None else _RECOMMEND
        infos = dict(self._signature_inputs(signature))
        infos.pop(K, None)
        inputs = columns(queries, infos)
        answers: Recommendations = []
        while (start := len(answers)) < len(queries):
            rows = self._limits.rows(k)
            part = {name: column[start : start + rows] for name, column in inputs.items()}
            try:
                answers += self._ask(signature, part if k is None else {**part, K: k})
            except ServingError as error:
                self._limits.learn(error.message)
                if self._limits.rows(k) >= min(rows, len(queries) - start):
                    raise  # for another reason
        return answers

    def _ask(self, signature: str, inputs: dict[str, Any]) -> Recommendations:
        outputs = self.predict(signature, inputs=inputs)
        return [
            # An empty id fills the row of a query that has fewer candidates than k.
            [(item, float(score)) for item, score in zip(ids, scores, strict=True) if item != ""]
            for ids, scores in zip(outputs["item_ids"], outputs["scores"], strict=True)
        ]

    def predict(
        self,
        signature: str = _DEFAULT,
        *,
        instances: Sequence[Any] | None = None,
        inputs: Any = None,
    ) -> Any:
        """Calls a signature with JSON values, in row format (`instances`) or columnar (`inputs`).

        Returns: the `predictions` or `outputs` of the answer.
        Raises: `LongtailError` unless exactly one format is given and its values are JSON;
          `ServingError`.
        """
        if (instances is None) == (inputs is None):
            raise LongtailError("expected either instances or inputs, received both or neither")
        request: dict[str, Any] = {"signature_name": signature}
        request |= {"inputs": inputs} if instances is None else {"instances": list(instances)}
        try:
            body = json.dumps(request, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            # NaN would be taken by the server and come back as a score.
            raise LongtailError(f"expected values that JSON can hold, received: {error}") from error
        try:
            answer = self._transport.call("POST", f"{self._path}:predict", body)
        except ServingError:
            self._inputs.clear()  # a new version may have other inputs
            raise
        return answer["outputs" if instances is None else "predictions"]

    def status(self) -> list[dict[str, Any]]:
        """The versions with their states, such as AVAILABLE; raises `ServingError`."""
        answer = self._transport.call("GET", self._path)
        return list(answer["model_version_status"])

    def metadata(self) -> dict[str, Any]:
        """The signature definitions by name; raises `ServingError`."""
        answer = self._transport.call("GET", f"{self._path}/metadata")
        return dict(answer["metadata"]["signature_def"]["signature_def"])

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Waits until a prediction succeeds; raises its last `ServingError` when time is up.

        AVAILABLE is not enough: TF Serving says so of a model whose ops it does not have.
        """
        deadline = time.monotonic() + timeout
        once = copy.copy(self)
        once._transport = self._transport.without_retries()
        while True:
            try:
                once.predict(inputs=neutral_inputs(once._signature_inputs(_DEFAULT)))
                return
            except ServingError as error:
                if time.monotonic() >= deadline:
                    text = f"not ready after {timeout:g} s: {error.message}"
                    raise ServingError(error.status, text) from error
            time.sleep(_RETRY_SECONDS)

    def _signature_inputs(self, signature: str) -> dict[str, Any]:
        """The inputs of a signature; kept, till a call fails."""
        if signature not in self._inputs:
            signatures = self.metadata()
            if signature not in signatures:
                known = ", ".join(sorted(signatures))
                raise LongtailError(f"expected one of the signatures {known}, received {signature}")
            self._inputs[signature] = signatures[signature]["inputs"]
        return self._inputs[signature]
