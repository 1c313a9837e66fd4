"""The sdist of Longtail that a job installs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pipelines
from preprocessing.base.errors import LongtailError, LongtailFailure


def source_tree() -> Path:
    """The folder of setup.py.

    Raises:
      LongtailError: Longtail was installed from a wheel, which holds none.
    """
    root = Path(pipelines.__file__).resolve().parents[1]
    if not (root / "setup.py").is_file():
        raise LongtailError(
            f"setup.py is missing beside the packages in {root}: Longtail was installed "
            "from a wheel; give its file with --package, or run in the source tree"
        )
    return root


def build_sdist(directory: Path) -> Path:
    """Builds the sdist into an existing directory; writes nothing into the source tree.

    Raises:
      LongtailError: there is no source tree.
      LongtailFailure: setuptools failed.
    """
    root = source_tree()
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [
                *(sys.executable, "setup.py", "--quiet"),
                *("egg_info", "--egg-base", scratch),
                *("sdist", "--dist-dir", str(directory.resolve())),
            ],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    built = list(directory.glob("*.tar.gz"))
    if done.returncode or not built:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LongtailFailure(
            f"the sdist of {root} could not be built ({last}): pip install 'setuptools>=70.1', or "
            "give a package with --package"
        )
    return built[0]
