#!/usr/bin/env bash
# Prints the path of a Python that can run Longtail: 3.10, or 3.11 (without TFX). Each candidate is run, since
# a name on PATH proves nothing: pyenv's shims exist for versions that are not selected.
# PYTHON=/path/to/python overrides the search.
set -euo pipefail

probe='
import sys
import bz2, ctypes, ensurepip, lzma, sqlite3, ssl, venv
if sys.version_info[:2] not in {(3, 10), (3, 11)} or sys.maxsize < 2**32 or sys.implementation.name != "cpython":
    sys.exit(1)
print("%d.%d" % sys.version_info[:2], sys.executable)
'

# try CANDIDATE [VERSION]: prints the interpreter and ends the search if it runs, and is of that version.
try() {
    local found
    found=$("$1" -c "$probe" 2>/dev/null </dev/null) || return 0
    [ -z "${2-}" ] || [ "${found%% *}" = "$2" ] || return 0
    printf '%s\n' "${found#* }"
    exit 0
}

if [ -n "${PYTHON-}" ]; then
    try "$PYTHON"
    echo "error: PYTHON=$PYTHON does not run as CPython 3.10 or 3.11 with venv, ensurepip and ssl" >&2
    exit 2
fi

for version in 3.10 3.11; do
    while IFS= read -r candidate; do try "$candidate" "$version"; done < <(type -ap "python$version" python3 python || true)
    for candidate in \
        "${PYENV_ROOT:-${HOME-}/.pyenv}/versions/$version".*/bin/python \
        "${HOME-}/.local/share/uv/python/cpython-$version".*/bin/python \
        "/usr/bin/python$version" "/usr/local/bin/python$version" "/opt/homebrew/bin/python$version"; do
        if [ -x "$candidate" ]; then try "$candidate" "$version"; fi
    done
done

cat >&2 <<'MESSAGE'
error: found no working Python 3.10 or 3.11 (with venv, ensurepip and ssl) on PATH, in pyenv or in uv.
Install one, for instance with `pyenv install 3.10`, `uv python install 3.10` or
`apt-get install python3.11-venv`, or name yours: `PYTHON=/path/to/python3.10 make ...`
MESSAGE
exit 2
