"""Whether the other tasks of a training on parameter servers are there: nobody waits without end.

TensorFlow's servers wait for calls and never learn that nobody is left to make them. A coordinator
listens on its address of `TF_CONFIG` from the moment it connects to them until its process ends,
however that ends, so the others need no word from it.
"""

from __future__ import annotations

import socket
import time

from preprocessing.errors import LongtailFailure
from trainer.cluster import Cluster

ARRIVAL_SECONDS = 1800.0
"""For a task that never answered: clouds may start those of a job minutes apart."""
LOOK_SECONDS = 1.0
"""Between two looks."""
_ANSWER_SECONDS = 5.0


class Lookout:
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
    """Waits, as the coordinator, until all servers and workers listen.

    Raises:
      LongtailFailure: one has not come.
    """
    missing = {
        address: Lookout(f"{job} {index}", address, time.monotonic())
        for job in ("ps", "worker")
        for index, address in enumerate(cluster.jobs[job])
    }
    while missing:
        for address, lookout in list(missing.items()):
            if answers(address):
                del missing[address]
            else:
                lookout.note(False, time.monotonic())
        if missing:
            time.sleep(LOOK_SECONDS)


def answers(address: str) -> bool:
    """Whether somebody listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS) as connected:
            # On one machine, a connection to a free port may by chance begin at that port.
            return bool(connected.getsockname() != connected.getpeername())
    except OSError:
        return False
