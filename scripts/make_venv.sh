#!/usr/bin/env bash
# Makes the virtual environment DIR from the lock of its Python's stack, whole or not at all: the stamp
# DIR/.longtail-complete is written last, and an environment without it (an interrupted run) is made anew.
# With the stamp (a lock or setup.py has changed) the environment is brought up to date.
set -euo pipefail

venv=${1:?usage: make_venv.sh DIR}
begun=$venv/.longtail-begun
complete=$venv/.longtail-complete
log=$venv/install.log

if [ -e "$venv" ] && [ ! -e "$begun" ] && [ -n "$(ls -A "$venv")" ]; then
    echo "error: $venv was not made by \`make\`: move it away, or use VENV=other-directory" >&2
    exit 2
fi
if [ ! -e "$complete" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    python=$(scripts/find_python.sh)
    rm -rf "$venv"
    mkdir -p "$venv"
    touch "$begun"
    if [ -n "${PYTHON-}" ]; then
        why="which PYTHON names"
    else
        case "${STACK-}" in full) order="3.10, 3.11" ;; current) order="3.12, 3.13" ;; *) order="3.10, 3.11, 3.12, 3.13" ;; esac
        why="the first of $order that this machine has; PYTHON=... names another"
    fi
    echo "Making $venv with $("$python" --version) ($python), $why"
    "$python" -m venv "$venv"
    made=yes
fi
version=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case "$version" in
    3.10) stack=full; holds="TensorFlow 2.16 with ScaNN and TFX"; size="1 GB to fetch, 3.5 GB on disk" ;;
    3.11) stack=full; holds="TensorFlow 2.16 with ScaNN, no TFX"; size="1 GB to fetch, 3 GB on disk" ;;
    *) stack=current; holds="TensorFlow 2.21, no ScaNN, no TFX"; size="0.6 GB to fetch, 3 GB on disk" ;;
esac
lock=requirements-$stack.lock
if [ -n "${made-}" ]; then echo "the $stack stack ($holds): about $size, 2 to 6 minutes"; fi
rm -f "$complete"

# Shows how far pip is: the package on a terminal, every 50th in a log.
progress() {
    local total=$1 word name count=0
    while read -r word name _; do
        case "$word $name" in
            "Collecting "* | "Processing "* | "Requirement "* | "Ignoring "*)
                count=$((count + 1))
                if [ -t 1 ]; then
                    printf '\r\033[K  %d of %d  %s' "$count" "$total" "${name##*/}"
                elif [ $((count % 50)) = 0 ]; then
                    echo "  $count of $total"
                fi ;;
            "Installing collected")
                if [ -t 1 ]; then printf '\r\033[K'; fi
                echo "  all fetched, unpacking (a minute or two)" ;;
        esac
    done
}

echo "Installing the packages of $lock"
if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps --no-compile \
    --use-pep517 --progress-bar off -r "$lock" 2>&1 |
    tee "$log" | progress "$(grep -c '^[a-z]' "$lock")"; then
    grep -v '^WARNING' "$log" | tail -n 15 >&2
    echo "error: installing failed (all of it: $log). Call make again once the cause is gone; a lost connection is the usual one." >&2
    exit 1
fi
"$venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps --no-build-isolation \
    -qq --editable .

# Container images often set PYTHONDONTWRITEBYTECODE. Without bytecode each process compiles TensorFlow and Beam again:
# 10 to 20 s a start. What the commands import is compiled here once; a library that cannot be imported shows too.
echo "Compiling what the commands import"
env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -W ignore - <<'END'
import preprocessing.base.quiet  # before TensorFlow
import implicit.als, matplotlib.figure, pipelines.cli, preprocessing.run, pytest, serving.export.run, serving.server.run
import trainer.evaluate, trainer.task
import importlib.util
if importlib.util.find_spec("tfx"):  # on Python 3.10 only
    import pipelines.tfx.local
END
date > "$complete"
echo "$venv is ready"
