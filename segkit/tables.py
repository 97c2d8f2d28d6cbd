"""Tables for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table

Rows = list[list[str]]  # the first one is the header


def wide_console() -> Console:
    """Return a console for tables, which would be hard to read if a narrow terminal cut them."""
    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
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
    console = Console(width=width, color_system=None, highlight=False, emoji=False, markup=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def as_markdown(rows: Rows) -> str:
    """Write a table in Markdown."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines) + "\n"
