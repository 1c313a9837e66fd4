"""What preprocessing costs as the log grows: seconds a stage and the peak of memory.

    python -m benchmarks.preprocess_cost CONFIG [--copies 1 2 4]

The log is copied with other users, so that interactions and users grow and the catalogue does not. Each size runs in
a process of its own, whose largest resident memory is printed: it must not grow with the interactions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from preprocessing.config import DataSections
from preprocessing.config_io import load_config

_CHILD = """
import resource, sys
from preprocessing.run import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def enlarge(source: Path, user: str, copies: int, target: Path) -> int:
    """Write the log ``copies`` times with other users, by row group; returns the interactions."""
    rows = 0
    with pq.ParquetFile(source) as log:
        writer = None
        for copy in range(copies):
            for batch in log.iter_batches(1 << 18):
                table = pa.Table.from_batches([batch])
                keys = pc.binary_join_element_wise(table[user].cast(pa.string()), f"-{copy}", "")
                table = table.set_column(table.schema.get_field_index(user), user, keys)
                writer = writer or pq.ParquetWriter(target, table.schema)
                writer.write_table(table)
                rows += len(table)
    if writer is not None:
        writer.close()
    return rows


def main() -> None:
    """Measures every size and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args()
    config = load_config(given.config, DataSections)
    table = Table(title=f"preprocessing {config.name}")
    columns = ("interactions", "seconds", "peak MiB", "interactions/s", "stages")
    for column in columns:
        table.add_column(column, justify="left" if column == "stages" else "right")
    for copies in given.copies:
        with tempfile.TemporaryDirectory() as scratch:
            log = Path(scratch) / "log.parquet"
            rows = enlarge(
                Path(config.data.interactions.path), config.data.columns.user, copies, log
            )
            out = Path(scratch) / "data"
            command = [sys.executable, "-c", _CHILD, str(given.config), "--data-dir", str(out)]
            command += ["--set", f"data.interactions.path={log}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak = int(done.stdout.strip().splitlines()[-1]) / 1024
            seconds = json.loads((out / "manifest.json").read_text())["seconds"]
        total = sum(seconds.values())
        stages = ", ".join(f"{name} {spent:.0f}" for name, spent in seconds.items())
        table.add_row(f"{rows:,}", f"{total:.0f}", f"{peak:,.0f}", f"{rows / total:,.0f}", stages)
    Console().print(table)


if __name__ == "__main__":
    main()
