"""The registry of formats: what the configuration offers and refuses, and what is documented, follow from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from preprocessing.base.errors import LongtailError
from preprocessing.config import TableConfig
from preprocessing.sources.formats.registry import ENDINGS, FORMATS, table_of_formats
from preprocessing.sources.readers import plan

ROOT = Path(__file__).resolve().parents[3]
GIVEN: dict[str, Any] = {
    "delimiter": ";",
    "columns": ["a", "b"],
    "encoding": "latin-1",
    "quoted_line_breaks": True,
}


def test_the_configuration_imports_no_library_that_reads() -> None:
    """Beam, TensorFlow and the readers of Arrow take seconds, and every command reads a configuration."""
    code = (
        "import preprocessing.config, sys; heavy = {'apache_beam', 'tensorflow', 'google.cloud.bigquery', "
        "'pyarrow.dataset', 'pyarrow.parquet', 'pyarrow.csv'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_documentation_has_the_table_of_the_registry() -> None:
    assert table_of_formats() in (ROOT / "docs" / "your_data.md").read_text()


def test_every_ending_is_of_one_format_and_every_option_is_a_key() -> None:
    assert len(ENDINGS) == sum(len(each.endings) for each in FORMATS.values())
    options = {option for each in FORMATS.values() for option in each.options}
    assert options == set(GIVEN) == TableConfig.model_fields.keys() - {"path", "format"}


@pytest.mark.parametrize("option", GIVEN)
@pytest.mark.parametrize("name", FORMATS)
def test_an_option_is_read_or_refused(name: str, option: str) -> None:
    given = {"path": "p.d.t", "format": name, option: GIVEN[option]}
    if option in FORMATS[name].options:
        assert getattr(TableConfig(**given), option) == GIVEN[option]
        return
    with pytest.raises(ValueError, match=f"{option} is read of format .* alone, .* {name}: leave"):
        TableConfig(**given)


def test_options_of_a_folder_are_judged_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_text('{"a": 1}\n')
    table = TableConfig(path=str(tmp_path), delimiter=";")
    with pytest.raises(LongtailError, match=r"delimiter is read of format csv or recbole alone"):
        plan(table, ["a"])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"format": "xml"}, "'csv', 'recbole', 'jsonl', 'parquet', 'tfrecord' or 'bigquery'"),
        ({"delimiter": "::", "quoted_line_breaks": True}, "quoted_line_breaks needs quotes"),
        ({"columns": ["a", "b", "a"]}, "each name once, received a twice"),
        ({"columns": []}, "at least 1"),
        ({"columns": ["a", ""]}, "at least 1"),
        ({"header": ["a"]}, "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TableConfig(**{"path": "t.csv", **table})
