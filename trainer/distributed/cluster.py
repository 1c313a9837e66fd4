"""The cluster that `TF_CONFIG` describes, as Vertex AI and TensorFlow's own tools write it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preprocessing.base.errors import LongtailError
from trainer.config.sections import TrainerSections

VARIABLE = "TF_CONFIG"
_JOBS = ("chief", "worker", "ps", "evaluator")
_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


@dataclass(frozen=True)
class Cluster:
    """The tasks of a training and which of them this process is.

    Attributes:
      jobs: name of the job (`chief`, `worker`, `ps`) -> addresses `host:port` of its tasks.
      task: job of this process; `evaluator` has nothing to do.
      index: number of this process within its job.
    """

    jobs: Mapping[str, tuple[str, ...]]
    task: str
    index: int

    @property
    def num_workers(self) -> int:
        """Tasks that compute steps together; a coordinator of servers is none of them."""
        chiefs = 0 if self.has_servers else len(self.jobs.get("chief", ()))
        return chiefs + len(self.jobs.get("worker", ()))

    @property
    def has_servers(self) -> bool:
        """Whether parameter servers hold the variables."""
        return "ps" in self.jobs

    @property
    def is_chief(self) -> bool:
        """Whether this process evaluates and writes: the chief, else the first worker."""
        return self.task == "chief" or (
            self.task == "worker" and self.index == 0 and "chief" not in self.jobs
        )

    @property
    def is_server(self) -> bool:
        """Whether this process only serves a coordinator."""
        return self.has_servers and self.task in ("worker", "ps")


def read_cluster(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """The cluster of this process; None where it trains alone.

    Args:
      environment: default: that of the process.

    Raises:
      LongtailError: `TF_CONFIG` is malformed.
    """
    text = (os.environ if environment is None else environment).get(VARIABLE, "").strip()
    if not text:
        return None
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise _error("JSON", f"{_cut(text)} ({error})") from error
    if not isinstance(document, dict):
        raise _error("a JSON object", _cut(text))
    if not document.get("cluster"):
        return None
    jobs = _jobs(document["cluster"])
    kind, index = _task(document.get("task"), jobs)
    cluster = Cluster({name: jobs[name] for name in jobs if name != "evaluator"}, kind, index)
    if cluster.has_servers:
        for job, least in (("chief", "one coordinator"), ("worker", "at least one worker")):
            if job not in cluster.jobs:
                raise _error(f"{least} ('{job}') beside the servers ('ps')", sorted(cluster.jobs))
    elif kind == "evaluator" or cluster.num_workers > 1:
        return cluster
    return cluster if cluster.has_servers else None


def require_divisible(config: TrainerSections, parts: int, unit: str) -> None:
    """Whether what a step draws falls into equal parts.

    Raises:
      LongtailError: it does not.
    """
    drawn = {"train.batch_size": config.train.batch_size}
    drawn["negatives.uniform"] = config.negatives.uniform
    if config.ssl.enabled:
        drawn["ssl.batch_size"] = config.ssl.batch_size
    for key, size in drawn.items():
        if size % parts:
            raise LongtailError(
                f"{key}: expected a multiple of the {parts} {unit} of the cluster, which share it, "
                f"received {size}; set it to {size - size % parts + parts}"
            )


def _jobs(given: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(given, dict):
        raise _error("cluster: an object of job -> addresses", given)
    unknown = sorted(set(given) - set(_JOBS))
    if unknown:
        raise _error(f"cluster: jobs among {', '.join(_JOBS)}", ", ".join(unknown))
    jobs = {}
    for name, addresses in given.items():
        if not isinstance(addresses, list) or not all(map(_is_address, addresses)):
            raise _error(f"cluster.{name}: a list of 'host:port'", addresses)
        if addresses:
            jobs[name] = tuple(addresses)
    if len(jobs.get("chief", ())) > 1:
        raise _error("cluster.chief: one address", list(jobs["chief"]))
    listed = [address for addresses in jobs.values() for address in addresses]
    twice = sorted({address for address in listed if listed.count(address) > 1})
    if twice:
        raise _error("cluster: every address once", f"{', '.join(twice)} more than once")
    if not set(jobs) & {"chief", "worker"}:
        raise _error("cluster: a chief or workers", sorted(jobs))
    return jobs


def _task(given: Any, jobs: Mapping[str, tuple[str, ...]]) -> tuple[str, int]:
    if not isinstance(given, dict) or "type" not in given or "index" not in given:
        raise _error("task: an object with type and index", given)
    kind, index = given["type"], given["index"]
    if kind == "evaluator":
        return kind, 0
    if kind not in jobs:
        raise _error(f"task.type: one of the cluster's jobs {sorted(jobs)}", repr(kind))
    # Some launchers write the index as a string.
    number = int(index) if isinstance(index, str) and index.isdigit() else index
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(jobs[kind]):
        raise _error(
            f"task.index: a number from 0 to {len(jobs[kind]) - 1} for '{kind}'", repr(index)
        )
    return kind, number


def _is_address(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    host, _, port = value.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536


def _error(expected: str, received: Any) -> LongtailError:
    return LongtailError(
        f"{VARIABLE}: expected {expected}, received {received}; unset it to train alone, or write "
        f"it like {_EXAMPLE}"
    )


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
