from __future__ import annotations

import json
from typing import Any

import pytest

from preprocessing.base.errors import LongtailError
from trainer.distributed.cluster import Cluster, read_cluster


def read(cluster: Any, task: Any = None, **more: Any) -> Cluster | None:
    document = {"cluster": cluster, "task": task or {"type": "worker", "index": 0}, **more}
    return read_cluster({"TF_CONFIG": json.dumps(document)})


TWO = {"worker": ["a:1", "b:1"]}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": "{}"},
        {
            "TF_CONFIG": '{"cluster": {"chief": ["127.0.0.1:2222"]}, "environment": "cloud", '
            '"task": {"type": "chief", "index": 0}}'
        },
    ],
)
def test_one_process_trains_alone(environment: dict[str, str]) -> None:
    assert read_cluster(environment) is None


def test_the_first_worker_is_the_chief_where_none_is_named() -> None:
    first, second = (read(TWO, {"type": "worker", "index": index}) for index in (0, "1"))
    assert first and second
    assert (first.is_chief, second.is_chief) == (True, False)
    assert (first.num_workers, second.index) == (2, 1)


def test_a_chief_works_too_and_an_evaluator_does_not() -> None:
    jobs = {"chief": ["a:1"], "worker": ["b:1"], "evaluator": ["c:1"]}
    worker = read(jobs)
    assert worker and not worker.is_chief and worker.num_workers == 2
    evaluator = read(jobs, {"type": "evaluator", "index": 0})
    assert evaluator and evaluator.task == "evaluator" and "evaluator" not in evaluator.jobs


def test_servers_and_their_coordinator() -> None:
    jobs = {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1", "d:1"]}
    chief, worker = read(jobs, {"type": "chief", "index": 0}), read(jobs)
    assert chief and chief.is_chief and not chief.is_server and chief.num_workers == 1
    assert worker and worker.is_server


@pytest.mark.parametrize(
    ("cluster", "task", "message"),
    [
        ([], None, None),
        (["a:1"], None, "cluster: an object"),
        ({"wroker": ["a:1"]}, None, "jobs among chief, worker, ps, evaluator, received wroker"),
        ({"worker": "a:1"}, None, r"cluster\.worker: a list of 'host:port', received a:1"),
        ({"worker": ["a:1", "b"]}, None, r"cluster\.worker: a list of 'host:port'"),
        ({"worker": ["a:1", "b:99999"]}, None, r"cluster\.worker: a list of 'host:port'"),
        ({"worker": ["a:1", "a:1"]}, None, "every address once, received a:1 more than once"),
        ({"chief": ["a:1", "b:1"]}, None, r"cluster\.chief: one address"),
        ({"ps": ["a:1"]}, None, "a chief or workers"),
        ({"worker": ["a:1"], "ps": ["b:1"]}, None, "one coordinator"),
        ({"chief": ["a:1"], "ps": ["b:1"]}, {"type": "ps", "index": 0}, "at least one worker"),
        (TWO, {"type": "worker"}, "task: an object with type and index"),
        (TWO, {"type": "chief", "index": 0}, r"task\.type: one of the cluster's jobs \['worker'\]"),
        (TWO, {"type": "worker", "index": 2}, r"task\.index: a number from 0 to 1 .*received 2"),
        (TWO, {"type": "worker", "index": True}, r"task\.index: .*received True"),
    ],
)
def test_what_is_malformed_is_named(cluster: Any, task: Any, message: str | None) -> None:
    if message is None:
        assert read(cluster, task) is None
        return
    with pytest.raises(LongtailError, match=f"TF_CONFIG: expected .*{message}.*unset it") as raised:
        read(cluster, task)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["{", "[1]", "worker=2"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(LongtailError, match=r"TF_CONFIG: expected .*JSON"):
        read_cluster({"TF_CONFIG": text})
