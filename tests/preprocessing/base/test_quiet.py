"""What an entry point sets before it imports the libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("given", "received"), [(700, 10_000), (50_000, 50_000), (0, 0)])
def test_cycles_are_looked_for_less_often_and_never_more(given: int, received: int) -> None:
    code = (
        f"import gc; gc.set_threshold({given}, 9, 8); import preprocessing.base.quiet; "
        f"assert gc.get_threshold() == ({received}, 9, 8), gc.get_threshold()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
