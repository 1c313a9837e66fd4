#!/usr/bin/env bash
# Prints the path of a Python that can run Longtail. The search takes the first of 3.10 (everything), 3.11 (no TFX),
# 3.12 and 3.13 (the current stack: no TFX, no ScaNN) that this machine has. Each candidate is run, since
# a name on PATH proves nothing: pyenv's shims exist for versions that are not selected.
# STACK=full or STACK=current keeps to the Pythons of one stack; PYTHON=/path/to/python, or python3.12, names one.
set -euo pipefail

case "${STACK-}" in
    "") versions="3.10 3.11 3.12 3.13" ;;
    full) versions="3.10 3.11" ;;
    current) versions="3.12 3.13" ;;
    *) echo "error: STACK expected full (Python 3.10, 3.11) or current (3.12, 3.13), received $STACK" >&2; exit 2 ;;
esac
newest=${versions##* }
alternatives="${versions% *}" # 3.10, 3.11 or 3.12
alternatives="${alternatives// /, } or $newest"

probe='
import sys
import bz2, ctypes, ensurepip, lzma, sqlite3, ssl, venv
version = "%d.%d" % sys.version_info[:2]
if version not in sys.argv[1:] or sys.maxsize < 2**32 or sys.implementation.name != "cpython":
    sys.exit(1)
print(version, sys.executable)
'

# try CANDIDATE VERSIONS...: prints the interpreter and ends the search if it runs, and is of one of these versions.
try() {
    local found
    found=$("$1" -c "$probe" "${@:2}" 2>/dev/null </dev/null) || return 0
    printf '%s\n' "${found#* }"
    exit 0
}

if [ -n "${PYTHON-}" ]; then
    # shellcheck disable=SC2086 # one word a version
    try "$PYTHON" $versions
    # `python3.12` may be the name of a pyenv shim that is not selected: then it is looked for like the others.
    named=${PYTHON#python}
    case " $versions " in *" $named "*) versions=$named ;; *) versions="" ;; esac
fi

for version in $versions; do
    while IFS= read -r candidate; do try "$candidate" "$version"; done < <(type -ap "python$version" python3 python || true)
    for candidate in \
        "${PYENV_ROOT:-${HOME-}/.pyenv}/versions/$version".*/bin/python \
        "${HOME-}/.local/share/uv/python/cpython-$version".*/bin/python \
        "/usr/bin/python$version" "/usr/local/bin/python$version" "/opt/homebrew/bin/python$version"; do
        if [ -x "$candidate" ]; then try "$candidate" "$version"; fi
    done
done

if [ -n "${PYTHON-}" ]; then
    echo "error: PYTHON=$PYTHON does not run as CPython $alternatives with venv, ensurepip and ssl" >&2
    exit 2
fi

first=${versions%% *}
cat >&2 <<MESSAGE
error: found no working Python $alternatives (with venv, ensurepip and ssl) on PATH, in pyenv or in uv.
Install one, for instance with \`pyenv install $first\`, \`uv python install $first\` or
\`apt-get install python$newest-venv\`, or name yours: \`PYTHON=/path/to/python$first make ...\`
MESSAGE
exit 2
