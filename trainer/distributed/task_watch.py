"""Whether the other tasks of a training are there: nobody waits without end.

TensorFlow's servers wait for calls and never learn that nobody is left to make them. A coordinator
listens on its address of `TF_CONFIG` from the moment it connects to them until its process ends,
however that ends, so the others need no word from it. Workers that do each step together wait for
each other before TensorFlow does, which would take an hour and not say for whom.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

from preprocessing.base.errors import LongtailFailure
from trainer.distributed.cluster import Cluster

ARRIVAL_SECONDS = 1800.0
"""For a task that never answered: clouds may start those of a job minutes apart."""
LOOK_SECONDS = 1.0
"""Between two looks."""
_ANSWER_SECONDS = 5.0


class TaskWatch:
    """Decides from what is seen of a task when it is gone for good."""

    def __init__(self, task: str, address: str, now: float, grace: float = 0.0) -> None:
        """Starts to look.

        Args:
          task: what to call it in an error.
          address: its `host:port`.
          now: seconds of a clock that never goes back, as in `note`.
          grace: how long one that answered before may be away: it may be restarted, or a network be
            slow.
        """
        self._task, self._address, self._grace = task, address, grace
        self._limit, self._since = ARRIVAL_SECONDS, now

    def note(self, is_there: bool, now: float) -> None:
        """Takes down what was seen.

        Args:
          is_there: whether the task answers.
          now: when.

        Raises:
          LongtailFailure: it has been away for too long.
        """
        if is_there:
            self._limit, self._since = self._grace, now
        elif now - self._since > self._limit:
            raise LongtailFailure(
                f"expected {self._task} of TF_CONFIG at {self._address}, received no answer for "
                f"{self._limit:.0f} s: its own output says why; then start all tasks again with the "
                "same command"
            )


def wait_for_all(cluster: Cluster) -> None:
    """Waits until all other tasks have listened at their addresses.

    Raises:
      LongtailFailure: one has not come.
    """
    missing = {
        address: TaskWatch(f"{job} {index}", address, time.monotonic())
        for job in ("chief", "ps", "worker")
        for index, address in enumerate(cluster.jobs.get(job, ()))
        if (job, index) != (cluster.task, cluster.index)
    }
    while missing:
        for address, lookout in list(missing.items()):
            if answers(address):
                del missing[address]
            else:
                lookout.note(False, time.monotonic())
        if missing:
            time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def listening(cluster: Cluster) -> Iterator[None]:
    """Is there for the others, at this task's address, before TensorFlow is.

    Raises:
      LongtailFailure: the address is taken.
    """
    address = cluster.jobs[cluster.task][cluster.index]
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, backlog=4096, dualstack_ipv6=both)
    except OSError as error:
        raise LongtailFailure(
            f"expected {cluster.task} {cluster.index} of TF_CONFIG to listen at {address}, received "
            f"{error.strerror}: see that the address is free and of this machine, and start all "
            "tasks together"
        ) from error
    with server:
        yield


def answers(address: str) -> bool:
    """Whether somebody listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS) as connected:
            # On one machine, a connection to a free port may by chance begin at that port.
            return bool(connected.getsockname() != connected.getpeername())
    except OSError:
        return False
