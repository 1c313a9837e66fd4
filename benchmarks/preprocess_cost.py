"""What preprocessing costs as log and catalogue grow: seconds a stage, CPU seconds, the peak of memory, bytes written.

    python -m benchmarks.preprocess_cost CONFIG [--sizes 1 2 4 4x4] [--out FILE.json]

A size is the number of copies of the log, each with other users, and after the x of the catalogue, each with other
keys that the copies of the log take in turn. Each size runs in a process of its own, whose largest resident memory is
printed: it must not grow with the interactions. CPU seconds tell more than seconds where the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from preprocessing.base.artifacts import library_versions, write_text_atomically
from preprocessing.base.config_io import load_config
from preprocessing.config import DataSections

_CHILD = """
import json, resource, sys
from preprocessing.run import main
code = main(sys.argv[1:])
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
cpu = sum(each.ru_utime + each.ru_stime for each in used)
print(json.dumps({"cpu_seconds": round(cpu, 1), "peak_mib": used[0].ru_maxrss // 1024}))
sys.exit(code)
"""


def copies_of(source: Path, columns: dict[str, int], copies: int) -> Iterator[pa.Table]:
    """The table ``copies`` times; the keys of copy i get ``-i`` modulo the number given for their column."""
    with pq.ParquetFile(source) as file:
        for copy in range(copies):
            for batch in file.iter_batches(1 << 18):
                table = pa.Table.from_batches([batch])
                for name, distinct in columns.items():
                    text = table[name].cast(pa.string())
                    keys = pc.binary_join_element_wise(text, f"-{copy % distinct}", "")
                    table = table.set_column(table.schema.get_field_index(name), name, keys)
                yield table


def enlarge(source: Path, columns: dict[str, int], copies: int, target: Path) -> None:
    """Write the copies of a Parquet file, by row group."""
    writer = None
    for table in copies_of(source, columns, copies):
        writer = writer or pq.ParquetWriter(target, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measure(config_file: Path, logs: int, catalogues: int) -> dict[str, Any]:
    """One preprocessing of the enlarged tables."""
    config = load_config(config_file, DataSections)
    data = config.data
    assert data.items is not None, "the benchmark enlarges a catalogue"
    with tempfile.TemporaryDirectory() as scratch:
        log, items, out = (
            Path(scratch) / name for name in ("log.parquet", "items.parquet", "data")
        )
        own = {data.columns.user: logs, data.columns.item: catalogues}
        enlarge(Path(data.interactions.path), own, logs, log)
        key = data.item_key or data.columns.item
        enlarge(Path(data.items.path), {key: catalogues}, catalogues, items)
        command = [sys.executable, "-c", _CHILD, str(config_file), "--data-dir", str(out)]
        command += ["--set", f"data.interactions.path={log}", "--set", f"data.items.path={items}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        manifest = json.loads((out / "manifest.json").read_text())
        vocabularies = {
            path.name: sum(1 for _ in path.open("rb"))
            for path in out.glob("transform_graph/*/transform_fn/assets/*")
        }
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    counts = manifest["counts"]
    return {
        "interactions": counts["rows"],
        "items": counts["items"],
        "users": counts["users"],
        "examples": counts["examples"]["train"],
        "vocabularies": vocabularies,
        "seconds": manifest["seconds"],
        "written_mb": round(size / 1e6),
        **json.loads(done.stdout.strip().splitlines()[-1]),
    }


def row_of(result: dict[str, Any]) -> list[str]:
    """A line of the printed table."""
    seconds = result["seconds"]
    numbers = [result["interactions"], result["items"], result["users"]]
    numbers += [max(result["vocabularies"].values()), sum(seconds.values()), result["cpu_seconds"]]
    numbers += [result["peak_mib"], result["written_mb"]]
    stages = ", ".join(f"{name} {spent:.0f}" for name, spent in seconds.items())
    return [*(f"{number:,.0f}" for number in numbers), stages]


def main() -> None:
    """Measures every size and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "--sizes", nargs="+", default=["1", "2", "4", "4x4"], metavar="LOGS[xITEMS]"
    )
    parser.add_argument("--out", type=Path, help="also write the figures here, as JSON")
    given = parser.parse_args()
    table = Table(title=f"preprocessing {given.config.stem}")
    columns = ("interactions", "items", "users", "largest vocabulary", "seconds", "CPU s")
    for column in (*columns, "peak MiB", "MB written", "stages"):
        table.add_column(column, justify="left" if column == "stages" else "right")
    results = []
    for size in given.sizes:
        logs, _, catalogues = size.partition("x")
        results.append(measure(given.config, int(logs), int(catalogues or 1)))
        table.add_row(*row_of(results[-1]))
        if given.out:
            document = {"libraries": library_versions(), "sizes": results}
            write_text_atomically(given.out, json.dumps(document, indent=1) + "\n")
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
