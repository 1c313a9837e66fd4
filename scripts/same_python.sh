#!/usr/bin/env bash
# Refuses to go on when PYTHON or STACK asks for another Python than the finished environment DIR has:
# what is asked for would else be ignored.
set -euo pipefail

venv=${1:?usage: same_python.sh DIR}
if [ ! -e "$venv/.longtail-complete" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then exit 0; fi

version='import sys; print("%d.%d" % sys.version_info[:2])'
have=$("$venv/bin/python" -c "$version")
if [ -n "${PYTHON-}" ]; then
    wanted=$("$(scripts/find_python.sh)" -c "$version")
    fits=$([ "$wanted" = "$have" ] && echo yes || echo no)
    asked="PYTHON=$PYTHON (Python $wanted)"
else
    case "${STACK-} $have" in
        "full 3.10" | "full 3.11" | "current 3.12" | "current 3.13" | " "*) fits=yes ;;
        *) fits=no ;;
    esac
    asked="STACK=${STACK-}"
fi
if [ "$fits" = no ]; then
    echo "error: $venv holds Python $have, $asked asks for another: VENV=other-directory makes one beside it," >&2
    echo "make distclean removes the one that is there" >&2
    exit 2
fi
