"""Writes the lock file of each stack: what setup.py and its extras (all but gpu and peers) resolve to.

Pins stay as they are unless setup.py rules them out; `--upgrade` takes the newest versions.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Stack to its Pythons, each with the marker that tells it from the other.
STACKS = {
    "full": {"3.10": "python_version < '3.11'", "3.11": "python_version >= '3.11'"},
    "current": {"3.12": "python_version < '3.13'", "3.13": "python_version >= '3.13'"},
}
HEADER = """\
# Made by `make lock` from setup.py, all extras but gpu and peers, for CPython {pythons} on Linux x86-64.
# Complete: to be installed with --no-deps.
"""


def pins(lines: list[str], marker: str) -> dict[str, str]:
    """Name to version of the lines of a lock that hold for the Python with this marker."""
    found = {}
    for line in lines:
        pin, _, condition = line.partition(" ; ")
        if "==" in pin and not line.startswith("#") and condition in ("", marker):
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
        return pins(output.read_text().splitlines(), "")


def merge(resolutions: dict[str, dict[str, str]], markers: dict[str, str]) -> list[str]:
    """One line for a package whose version is the same everywhere, else one a Python with its marker."""
    lines = []
    for name in sorted(set().union(*resolutions.values())):
        versions = {python: found.get(name) for python, found in resolutions.items()}
        if len(set(versions.values())) == 1:
            lines.append(f"{name}=={versions.popitem()[1]}")
        else:
            lines += [f"{name}=={v} ; {markers[python]}" for python, v in versions.items() if v]
    return lines


def write(stack: str, *, upgrade: bool) -> None:
    """Resolves for each Python of a stack and writes its lock."""
    markers, path = STACKS[stack], ROOT / f"requirements-{stack}.lock"
    old = path.read_text().splitlines() if path.exists() and not upgrade else []
    resolutions: dict[str, dict[str, str]] = {}
    for python, marker in markers.items():
        # The second Python follows the first where it can, so that most lines hold for both.
        earlier = next(iter(resolutions.values()), {})
        resolutions[python] = resolve(python, earlier | pins(old, marker))
    header = HEADER.format(pythons=" and ".join(markers))
    path.write_text(header + "\n".join(merge(resolutions, markers)) + "\n")


def main() -> None:
    """Writes the locks of both stacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true")
    upgrade = parser.parse_args().upgrade
    for stack in STACKS:
        write(stack, upgrade=upgrade)


if __name__ == "__main__":
    main()
