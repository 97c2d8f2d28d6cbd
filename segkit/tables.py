"""Tables for the terminal, for spreadsheets and for Markdown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.table import Table

from segkit.console import PlainConsole, printable

Rows = list[list[str]]  # the first one is the header
# what a spreadsheet takes for a formula, also in full width
RUN = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\n]")


def wide_console() -> PlainConsole:
    """Return a console for tables, which would be hard to read if a narrow terminal cut them."""
    console = PlainConsole()
    console.width = max(console.width, 130)
    return console


def make_table(title: str, header: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Return a table of names, in the first column, and numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.collapse_padding, table.pad_edge = True, False
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table


def as_text(table: Table, width: int = 200) -> str:
    """Draw a table as plain text."""
    console = PlainConsole(width=width, color_system=None, soft_wrap=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def as_csv(header: Iterable[str], rows: Iterable[Iterable[Any]], nan: str = "") -> str:
    """Write a header and rows of cells as CSV; None is empty, and nan is written as asked for."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(name) for name in header])
    writer.writerows([[nan if value != value else _cell(value) for value in row] for row in rows])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Return what a cell holds; a text that a spreadsheet would run gets an apostrophe in front."""
    if isinstance(value, str):
        text = printable(value)
        return f"'{text}" if RUN.match(text) else text
    return value


def as_markdown(rows: Rows) -> str:
    """Write a table in Markdown."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines) + "\n"
