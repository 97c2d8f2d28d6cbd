"""Tables for spreadsheets hold texts, never formulas."""

import csv
import io
import math

from hostile import hostile_texts

from segkit.console import printable
from segkit.tables import as_csv

FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")  # as OWASP's page on CSV injection lists them


def read(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def test_no_cell_begins_a_formula():
    texts = [text for text in hostile_texts(2000) if "\r" not in text]
    rows = read(as_csv([texts[0]] * 2, [(text, text) for text in texts]))
    assert len(rows) == len(texts) + 1
    escaped = 0
    for text, (cell, other) in zip(texts, rows[1:], strict=True):
        assert cell == other
        assert not cell.startswith(FORMULA)
        assert not cell.lstrip().startswith(FORMULA), ascii(text)
        plain = printable(text)
        assert cell in (plain, f"'{plain}")
        escaped += cell != plain
        cell.encode()
    assert 100 < escaped < len(texts) / 2


def test_headers_are_cells_too():
    assert read(as_csv(["=1+1", "a"], [])) == [["'=1+1", "a"]]


def test_numbers_stay_numbers_and_names_names():
    row = [-1.5, math.nan, None, 0, "road (wet) [1]", "道路", "a-b=c", "x, y"]
    expected = ["-1.5", "", "", "0", "road (wet) [1]", "道路", "a-b=c", "x, y"]
    assert read(as_csv(map(str, range(8)), [row]))[1] == expected
