"""Request counts and latencies in Prometheus' text format, under the names TF Serving uses."""

from __future__ import annotations

import bisect
import itertools
import threading
from collections import Counter

METRICS_PATH = "/monitoring/prometheus/metrics"
# Microseconds, as there: 10 * 1.8^i.
_BOUNDS = [10 * 1.8**i for i in range(33)]
_COUNT = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency"


class RequestMetrics:
    """Counts requests by model and status, and the latency of those that succeeded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._sums: Counter[str] = Counter()

    def record(self, model: str, code: str, seconds: float) -> None:
        """Adds one request; `code` is its canonical status such as OK or NOT_FOUND."""
        micros = seconds * 1e6
        with self._lock:
            self._counts[model, code] += 1
            if code == "OK":
                buckets = self._buckets.setdefault(model, [0] * (len(_BOUNDS) + 1))
                buckets[bisect.bisect_left(_BOUNDS, micros)] += 1
                self._sums[model] += round(micros)

    def text(self) -> str:
        """The page that Prometheus scrapes."""
        with self._lock:
            counts = sorted(self._counts.items())
            buckets = {model: list(values) for model, values in self._buckets.items()}
            sums = dict(self._sums)
        lines = [f"# TYPE {_COUNT} counter"]
        lines += [
            f'{_COUNT}{{model_name="{model}",status="{code}"}} {count}'
            for (model, code), count in counts
        ]
        lines.append(f"# TYPE {_LATENCY} histogram")
        for model, values in sorted(buckets.items()):
            labels = f'model_name="{model}",API="predict",entrypoint="REST"'
            total = 0
            for bound, total in zip(
                [*map("{:g}".format, _BOUNDS), "+Inf"], itertools.accumulate(values), strict=True
            ):
                lines.append(f'{_LATENCY}_bucket{{{labels},le="{bound}"}} {total}')
            lines.append(f"{_LATENCY}_sum{{{labels}}} {sums[model]}")
            lines.append(f"{_LATENCY}_count{{{labels}}} {total}")
        return "\n".join(lines) + "\n"
