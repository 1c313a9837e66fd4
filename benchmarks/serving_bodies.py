"""CPU that the embedded server's interpreter spends on reading a request body, by kind of body.

    python -m benchmarks.serving_bodies            # a minute; prints a Markdown table

Bodies of about --kilobytes, valid and not: each is read --repeats times as `rest.py` reads it, from
bytes to arrays or to the error. What the table shows is milliseconds of CPU for 100 kB of body, the
median and the worst; the goal is less than 50 for every kind.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Mapping

import tensorflow as tf

from serving.server.codec import decode_request
from serving.server.status import StatusError

ONE = {"x": tf.float32}
TEXT = {"x": tf.string}
TWO = {"uid": tf.string, "x": tf.float32}
Types = Mapping[str, tf.DType]


def _many(head: bytes, part: bytes, tail: bytes, size: int) -> bytes:
    """`head`, `part` again and again with commas between, `tail`: about `size` bytes."""
    return head + b",".join([part] * max(size // (len(part) + 1), 1)) + tail


KINDS: dict[str, tuple[Types, Callable[[int], bytes]]] = {
    "numbers, columnar": (ONE, lambda n: _many(b'{"inputs":[', b"1.5", b"]}", n)),
    "numbers, a row each": (ONE, lambda n: _many(b'{"instances":[', b"1", b"]}", n)),
    "lists of one number": (ONE, lambda n: _many(b'{"instances":[', b"[1]", b"]}", n)),
    "empty lists": (ONE, lambda n: _many(b'{"instances":[', b"[]", b"]}", n)),
    "lists in lists in lists": (ONE, lambda n: _many(b'{"inputs":[', b"[[[1]]]", b"]}", n)),
    "objects": (TWO, lambda n: _many(b'{"instances":[', b'{"uid":"a","x":1}', b"]}", n)),
    "words": (TEXT, lambda n: _many(b'{"inputs":[', b'"a"', b"]}", n)),
    "one long string": (TEXT, lambda n: b'{"inputs":["' + b"a" * n + b'"]}'),
    "one escaped emoji": (
        TEXT, lambda n: _many(b'{"inputs":["\\ud83d\\ude00",', b'"a"', b"]}", n)
    ),
    "escapes only": (TEXT, lambda n: b'{"inputs":["' + b"\\ud83d\\ude00" * (n // 12) + b'"]}'),
    "bytes that are no UTF-8": (TEXT, lambda n: _many(b'{"inputs":[', b'"\xff"', b"]}", n)),
    "base64, short": (TEXT, lambda n: _many(b'{"inputs":[', b'{"b64":""}', b"]}", n)),
    "base64, long": (TEXT, lambda n: b'{"inputs":[{"b64":"' + b"a " * (n // 2) + b'"}]}'),
    "spaces": (ONE, lambda n: b'{"inputs":' + b" " * n + b"1}"),
    "cut off": (ONE, lambda n: _many(b'{"instances":[', b"1.5", b"", n)),
    "last value wrong": (ONE, lambda n: _many(b'{"instances":[', b"1", b',"a"]}', n)),
    "last row ragged": (ONE, lambda n: _many(b'{"instances":[', b"[1]", b",[1,2]]}", n)),
    "last row another object": (
        TWO, lambda n: _many(b'{"instances":[', b'{"uid":"a","x":1}', b',{"x":1}]}', n)
    ),
    "open brackets": (ONE, lambda n: b"[" * n),
    "900 levels, again and again": (
        ONE, lambda n: _many(b'{"inputs":[', b"[" * 900 + b"]" * 900, b"]}", n)
    ),
    "digits of one integer": (ONE, lambda n: b'{"inputs":[' + b"9" * n + b"]}"),
    "digits of one fraction": (ONE, lambda n: b'{"inputs":[0.' + b"9" * n + b"]}"),
    "keys": (ONE, lambda n: b'{"inputs":1' + b"".join(b',"%d":1' % i for i in range(n // 10)) + b"}"),
    "one key again and again": (ONE, lambda n: _many(b'{"inputs":1,', b'"":1', b"}", n)),
    "empty objects": (ONE, lambda n: _many(b'{"instances":[', b"{}", b"]}", n)),
}  # fmt: skip


def cpu(body: bytes, types: Types) -> tuple[float, str]:
    """Milliseconds of CPU for 100 kB, and the code of the answer."""
    start = time.process_time()
    try:
        decode_request(body, lambda _: types)
        code = "OK"
    except StatusError as error:
        code = error.code
    return (time.process_time() - start) * 1e3 * 1e5 / len(body), code


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kilobytes", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    given = parser.parse_args()
    gc.collect()
    gc.freeze()  # as the server does
    print("| body | answer | ms of CPU for 100 kB | worst |\n|---|---|---|---|")
    for kind, (types, make) in KINDS.items():
        body = make(given.kilobytes * 1000)
        runs = [cpu(body, types) for _ in range(given.repeats)]
        times = [taken for taken, _ in runs]
        print(f"| {kind} | {runs[0][1]} | {statistics.median(times):.1f} | {max(times):.1f} |")


if __name__ == "__main__":
    main()
