"""The section of the configuration that says where a table lies and how it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from preprocessing.base.locations import is_folder, is_pattern
from preprocessing.features import Section
from preprocessing.sources.formats.registry import ENDINGS, FORMATS, check_options, format_of

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[tuple(FORMATS)]


Name = Annotated[str, Field(min_length=1)]


class TableConfig(Section):
    """Where a table lies: files by pattern, or a BigQuery table."""

    path: str = Field(
        min_length=1, description="file, pattern, folder, or project.dataset.table for BigQuery"
    )
    format: FormatName | None = Field(None, description="default: by the ending")
    delimiter: str | None = Field(
        None,
        pattern=r'^([^"\r\n\x00\x80-\U0010ffff]|[^"\r\n\x00]{2,16})$',
        description="of delimited text: one character of ASCII between fields, or several characters, of which none is "
        "quoted then; default: a tab for .tsv and .tab, else a comma",
    )
    columns: Annotated[list[Name], Field(min_length=1)] | None = Field(
        None,
        description="csv: names of the columns of files without a header line, default: the first line",
    )
    encoding: str | None = Field(
        None,
        description="of text: a codec of Python, e.g. latin-1; default: by the byte order mark, else UTF-8",
    )
    quoted_line_breaks: bool = Field(
        False, description="csv: whether a quoted value may go on over several lines"
    )

    @property
    def resolved_format(self) -> str | None:
        """The format, by the ending of the path where it is not given; None where the files tell it."""
        return self.format or format_of(self.path)

    @property
    def in_files(self) -> bool:
        """Whether the path means files; those of a folder may be of any format that is in files."""
        return self.resolved_format is None or FORMATS[self.resolved_format].in_files

    @model_validator(mode="after")
    def _check(self) -> TableConfig:
        name, several = self.resolved_format, is_folder(self.path)
        if name is None and not several and not is_pattern(self.path):
            plain = [ending for ending in ENDINGS if ending.count(".") == 1]
            raise ValueError(
                f"cannot tell the format of '{self.path}': expected an ending of {', '.join(plain)}, "
                "some of them also compressed, a folder, a pattern, or 'format' to be set"
            )
        twice = sorted(
            {each for each in self.columns or () if (self.columns or []).count(each) > 1}
        )
        if twice:
            raise ValueError(f"columns expected each name once, received {', '.join(twice)} twice")
        # What a folder's files are is seen when they are listed, and the options are checked then.
        if name is not None and (self.format is not None or not several):
            check_options(self, name)
        return self
