"""An export made by one stack answers alike on the other; LONGTAIL_OTHER_PYTHON names the other's Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

OTHER = os.environ.get("LONGTAIL_OTHER_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.both_stacks,
    pytest.mark.skipif(
        not OTHER, reason="LONGTAIL_OTHER_PYTHON names no Python of the other stack"
    ),
]


def exchange(python: str, root: Path, verb: str, directory: Path) -> None:
    done = subprocess.run(
        [python, "-m", "tests.serving.export.exchange", verb, str(directory)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("maker", ["this", "other"])
def test_the_other_stack_serves_it_with_equal_answers(
    root: Path, tmp_path: Path, maker: str
) -> None:
    pythons = [sys.executable, OTHER] if maker == "this" else [OTHER, sys.executable]
    exchange(pythons[0], root, "make", tmp_path)
    exchange(pythons[1], root, "answer", tmp_path)
    wanted, received = (
        json.loads((tmp_path / name).read_text()) for name in ("answers.json", "other_answers.json")
    )
    versions = [answers.pop("versions")["tensorflow"] for answers in (wanted, received)]
    assert versions[0] != versions[1], "LONGTAIL_OTHER_PYTHON is of the same stack"
    assert received["serving_default"]["item_ids"] == wanted["serving_default"]["item_ids"]
    for signature, output in (("serving_default", "scores"), ("embed_item", "embedding")):
        np.testing.assert_allclose(
            received[signature][output], wanted[signature][output], rtol=0, atol=1e-5
        )
