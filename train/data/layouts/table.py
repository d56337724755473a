"""A CSV file that names the pictures: columns path and label, and split if they are divided."""

from __future__ import annotations

import csv
import functools
import io
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Optional, Union

from common.errors import UserError
from common.wording import listed, shown
from train.data.image_files import BadFile
from train.data.layouts.folders import image_at, listing_of, unreadable
from train.data.layouts.listing import ImageFile, SplitListing
from train.data.tfds_source import require_split

COLUMNS = ("path", "label")
_SPLIT = "split"


class Row(NamedTuple):
    """A line below the header.

    Attributes:
        line: where it ends, from 1.
        path: as it is written, without detours such as `./`; relative to the file's folder.
        split: "train" where there is no such column.
    """

    line: int
    path: str
    label: str
    split: str


class Table:
    """The splits that the file `root` tells.

    The order of its rows is of no matter. Rows of splits that are not asked for are checked, but
    for their pictures.
    """

    kind = "table"

    def __init__(self, root: Path) -> None:
        self.root = root

    @functools.cached_property
    def _rows(self) -> tuple[list[Row], bool]:
        return read_table(self.root)

    def split(self, name: str, flag: str) -> SplitListing:
        """See `Layout`."""
        rows, divided = self._rows
        if not divided and flag == "test_split":
            raise UserError(
                f"{shown(self.root)} has no column {_SPLIT}: add one, or give --test_split a share "
                "of the pictures to test on, such as 0.2"
            )
        require_split(sorted({row.split for row in rows}), name, flag, shown(self.root))
        wanted = sorted(
            (row for row in rows if row.split == name), key=lambda row: (row.label, row.path)
        )
        return listing_of(
            [self._image(row) for row in wanted], sorted({row.label for row in wanted})
        )

    def _image(self, row: Row) -> Union[ImageFile, BadFile]:
        found = image_at(self.root.parent / row.path, row.path, row.label)
        if isinstance(found, BadFile):
            return BadFile(found.path, f"(line {row.line} of {shown(self.root.name)}) {found.why}")
        return found


def read_table(file: Path) -> tuple[list[Row], bool]:
    """The rows of a file, and whether it has a column for their splits.

    Raises UserError: it cannot be read, is no CSV with these columns, or a row lacks something or
    names a picture again. Each kind of fault is one line, with the numbers of all such lines.
    """
    header, *lines = _cells(file)
    names = [name.strip().lower() for name in header.cells]
    for name in (*COLUMNS, _SPLIT):
        if names.count(name) != 1 and (name in COLUMNS or names.count(name)):
            raise UserError(
                f"{shown(file)}, line {header.line}: the header has to name the columns path and "
                f"label, separated by commas, and may name split, each once; it is "
                f"{shown(','.join(header.cells))}"
            )
    columns = {name: names.index(name) for name in (*COLUMNS, _SPLIT) if name in names}
    if not lines:
        raise UserError(f"{shown(file)} has no row below its header")
    rows = [_row(line, columns) for line in lines]
    _require_full(file, rows, columns)
    _require_once(file, rows)
    return rows, _SPLIT in columns


class _Line(NamedTuple):
    line: int
    cells: list[str]


def _cells(file: Path) -> list[_Line]:
    """The lines that are not empty, the header first."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error
    reader = csv.reader(io.StringIO(_text(file, data), newline=""), strict=True)
    try:
        lines = [_Line(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise UserError(f"{shown(file)}, line {reader.line_num} is no CSV: {error}") from error
    return lines or [_Line(1, [])]


def _text(file: Path, data: bytes) -> str:
    place = data.find(b"\0")  # no path has one
    try:
        text = data.decode("utf-8-sig")  # spreadsheets write the mark
    except UnicodeDecodeError as error:
        place = error.start
    if place >= 0:
        line = data.count(b"\n", 0, place) + 1
        raise UserError(f"{shown(file)}, line {line}: it is no text in UTF-8, save it as such")
    return text


def _row(line: _Line, columns: dict[str, int]) -> Row:
    def cell(name: str) -> str:
        place = columns[name]
        return line.cells[place].strip() if place < len(line.cells) else ""

    path = cell("path")
    return Row(
        line.line,
        os.path.normpath(path) if path else "",
        cell("label"),
        cell(_SPLIT) if _SPLIT in columns else "train",
    )


def _require_full(file: Path, rows: Iterable[Row], columns: Iterable[str]) -> None:
    for name in columns:
        empty = [row.line for row in rows if not getattr(row, name)]
        if empty:
            raise UserError(f"{shown(file)}: column {name} is empty in {_lines(empty)}")


def _require_once(file: Path, rows: Iterable[Row]) -> None:
    lines: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        lines[row.path].append(row.line)
    doubled = [f"{shown(path)} in {_lines(found)}" for path, found in lines.items() if found[1:]]
    if doubled:
        raise UserError(
            f"{shown(file)} names a picture more than once: {listed(doubled)}; each has one row"
        )


def _lines(numbers: list[int]) -> str:
    return f"line{'s' * (len(numbers) != 1)} {listed(numbers)}"


def named_files(file: Path) -> Optional[list[tuple[str, Path]]]:
    """The pictures of all splits, by the names that `file` has for them; None if it is no table."""
    if not is_table(file):
        return None
    return [(row.path, file.parent / row.path) for row in read_table(file)[0]]


def is_table(path: Path) -> bool:
    """Whether it is a file with the name of one."""
    return path.suffix.lower() == ".csv" and os.path.isfile(path)
