"""When a coordinator counts as gone; tests/trainer/test_parameter_servers.py has the real processes."""

from __future__ import annotations

import socket

import pytest

from preprocessing.errors import LongtailFailure
from trainer.lookout import Lookout, answers


def test_one_that_never_came_is_waited_for_half_an_hour() -> None:
    lookout = Lookout("host:1", 100.0)
    lookout.note(False, 1900.0)
    with pytest.raises(LongtailFailure, match=r"at host:1, received no answer for 1800 s: .*start"):
        lookout.note(False, 1900.1)


def test_one_that_went_away_may_come_back_within_a_minute() -> None:
    lookout = Lookout("host:1", 0.0)
    lookout.note(True, 1000.0)
    lookout.note(False, 1060.0)
    lookout.note(True, 1070.0)  # a look may take its time
    lookout.note(False, 1130.0)
    with pytest.raises(LongtailFailure, match=r"at host:1, received no answer for 60 s"):
        lookout.note(False, 1130.1)


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
