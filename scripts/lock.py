"""Writes requirements.lock: what setup.py and its extras (all but peers) resolve to on Python 3.10 and 3.11.

Pins stay as they are unless setup.py rules them out; `--upgrade` takes the newest versions.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
MARKERS = {"3.10": "python_version < '3.11'", "3.11": "python_version >= '3.11'"}
HEADER = """\
# Made by `make lock` from setup.py, all extras but peers, for CPython 3.10 and 3.11 on Linux x86-64.
# Complete: to be installed with --no-deps.
"""


def pins(lines: list[str], python: str) -> dict[str, str]:
    """Name to version of the lock's lines that hold for one Python."""
    found = {}
    for line in lines:
        pin, _, marker = line.partition(" ; ")
        if "==" in pin and not line.startswith("#") and marker in ("", MARKERS[python]):
            name, _, version = pin.partition("==")
            found[name] = version
    return found


def resolve(python: str, preferred: dict[str, str]) -> dict[str, str]:
    """Resolves for one Python; takes the preferred versions wherever setup.py allows them."""
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "lock.txt"  # uv prefers the pins that it finds in its output
        output.write_text("".join(f"{name}=={version}\n" for name, version in preferred.items()))
        command = [
            *(sys.executable, "-m", "uv", "pip", "compile", "setup.py", "--extra", "all"),
            *("--python-version", python, "--python-platform", "x86_64-manylinux_2_28"),
            *("--no-header", "--no-annotate", "--quiet", "--output-file", str(output)),
        ]
        print(f"resolving for Python {python}", file=sys.stderr)
        subprocess.run(command, cwd=ROOT, check=True)
        return pins(output.read_text().splitlines(), python)


def merge(resolutions: dict[str, dict[str, str]]) -> list[str]:
    """One line for a package whose version is the same everywhere, else one a Python with its marker."""
    lines = []
    for name in sorted(set().union(*resolutions.values())):
        versions = {python: found.get(name) for python, found in resolutions.items()}
        if len(set(versions.values())) == 1:
            lines.append(f"{name}=={versions.popitem()[1]}")
        else:
            lines += [f"{name}=={v} ; {MARKERS[python]}" for python, v in versions.items() if v]
    return lines


def main() -> None:
    """Resolves for each Python and writes the lock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true")
    upgrade = parser.parse_args().upgrade
    old = LOCK.read_text().splitlines() if LOCK.exists() and not upgrade else []
    resolutions: dict[str, dict[str, str]] = {}
    for python in MARKERS:
        # The second Python follows the first where it can, so that most lines hold for both.
        earlier = next(iter(resolutions.values()), {})
        resolutions[python] = resolve(python, earlier | pins(old, python))
    LOCK.write_text(HEADER + "\n".join(merge(resolutions)) + "\n")


if __name__ == "__main__":
    main()
