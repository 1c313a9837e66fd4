"""Whether the coordinator of parameter servers is still there: what its servers and workers end by.

TensorFlow's servers wait for calls and never learn that nobody is left to make them. A coordinator
listens on its address of `TF_CONFIG` from the moment it connects to them until its process ends,
however that ends, so the others need no word from it.
"""

from __future__ import annotations

import socket

from preprocessing.errors import LongtailFailure

ARRIVAL_SECONDS = 1800.0
"""For a coordinator that never answered: clouds may start the tasks of a job minutes apart."""
GRACE_SECONDS = 60.0
"""For one that answered before: it may be restarted, or a network be slow."""
_ANSWER_SECONDS = 5.0


class Lookout:
    """Decides from what is seen of a coordinator when it is gone for good."""

    def __init__(self, address: str, now: float) -> None:
        """Starts to look.

        Args:
          address: `host:port` of the coordinator.
          now: seconds of a clock that never goes back, as in `note`.
        """
        self._address, self._limit, self._since = address, ARRIVAL_SECONDS, now

    def note(self, is_there: bool, now: float) -> None:
        """Takes down what was seen.

        Args:
          is_there: whether the coordinator answers.
          now: when.

        Raises:
          LongtailFailure: it has been away for too long.
        """
        if is_there:
            self._limit, self._since = GRACE_SECONDS, now
        elif now - self._since > self._limit:
            raise LongtailFailure(
                f"expected the coordinator (the chief in TF_CONFIG) at {self._address}, received no "
                f"answer for {self._limit:.0f} s: its own output says why it ended; then start all "
                "tasks again with the same command"
            )


def answers(address: str) -> bool:
    """Whether somebody listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS) as connected:
            # On one machine, a connection to a free port may by chance begin at that port.
            return bool(connected.getsockname() != connected.getpeername())
    except OSError:
        return False
