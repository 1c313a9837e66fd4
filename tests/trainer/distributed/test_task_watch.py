"""When another task counts as gone; tests/trainer/distributed/test_parameter_servers.py has the real processes."""

from __future__ import annotations

import socket
import threading

import pytest

from preprocessing.base.errors import LongtailFailure
from trainer.distributed import task_watch
from trainer.distributed.cluster import Cluster
from trainer.distributed.task_watch import TaskWatch, answers, listening, wait_for_all


def test_one_that_never_came_is_waited_for_half_an_hour() -> None:
    seen = TaskWatch("ps 0", "host:1", 100.0)
    seen.note(False, 1900.0)
    with pytest.raises(
        LongtailFailure,
        match=r"expected ps 0 of TF_CONFIG at host:1, received no answer for 1800 s: .*start",
    ):
        seen.note(False, 1900.1)


def test_one_that_went_away_may_come_back_within_its_grace() -> None:
    seen = TaskWatch("ps 0", "host:1", 0.0, 60.0)
    seen.note(True, 1000.0)
    seen.note(False, 1060.0)
    seen.note(True, 1070.0)  # a look may take its time
    seen.note(False, 1130.0)
    with pytest.raises(LongtailFailure, match=r"at host:1, received no answer for 60 s"):
        seen.note(False, 1130.1)


@pytest.mark.parametrize(
    ("family", "host", "written"),
    [(socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "[::1]")],
)
def test_an_address_answers_while_somebody_listens(
    family: socket.AddressFamily, host: str, written: str
) -> None:
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"no {host} on this machine")
    with server:
        address = f"{written}:{server.getsockname()[1]}"
        assert answers(address)
    assert not answers(address)


def test_a_name_that_nobody_has_does_not_answer() -> None:
    assert not answers("no-such-host.invalid:2222")


def test_the_coordinator_says_for_whom_it_waited_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_watch, "ARRIVAL_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as there, socket.create_server(("", 0)) as gone:
        address, missing = (f"127.0.0.1:{each.getsockname()[1]}" for each in (there, gone))
        gone.close()
        jobs = {"chief": ("127.0.0.1:1",), "worker": (missing,), "ps": (address,)}
        with pytest.raises(LongtailFailure, match=f"expected worker 0 of TF_CONFIG at {missing}"):
            wait_for_all(Cluster(jobs, "chief", 0))


def test_workers_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_watch, "LOOK_SECONDS", 0.01)
    with socket.create_server(("", 0)) as one, socket.create_server(("", 0)) as other:
        addresses = tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in (one, other))
    both = [Cluster({"worker": addresses}, "worker", index) for index in range(2)]

    def come() -> None:
        with listening(both[0]):
            wait_for_all(both[0])

    first = threading.Thread(target=come, daemon=True)
    first.start()
    first.join(0.2)
    assert first.is_alive()
    with listening(both[1]):
        wait_for_all(both[1])
        first.join(300.0)
    assert not first.is_alive()
    # TensorFlow takes the address next.
    socket.create_server(("", int(addresses[0].rpartition(":")[2]))).close()


def test_an_address_that_is_taken_is_told_before_any_waiting() -> None:
    with socket.create_server(("", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        cluster = Cluster({"worker": ("127.0.0.1:1", address)}, "worker", 1)
        with (
            pytest.raises(
                LongtailFailure,
                match=f"worker 1 of TF_CONFIG to listen at {address}, .*in use.*free",
            ),
            listening(cluster),
        ):
            pass
