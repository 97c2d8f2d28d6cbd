"""What is printed is shown as it is, whatever a file put into it."""

import io
import re

import pytest
from hostile import hostile_texts
from rich.table import Table
from rich.text import Text

from segkit.console import PlainConsole, complain, printable, progress_bar, say
from segkit.tables import as_text, make_table


def printed(*things, terminal=True, **options):
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=terminal, width=500, **options)
    console.print(*things)
    return file.getvalue()


def test_texts_are_printed_as_they_are():
    for text in hostile_texts(400):
        shown = printed(text)
        assert shown.split() == printable(text).split(), ascii(text)  # tabs become spaces
        assert shown.count("\n") == text.count("\n") + 1
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e]", shown)
        shown.encode()


def test_cells_titles_and_captions_are_too():
    for text in hostile_texts(150, seed=1):
        line = text.replace("\n", " ").replace("\t", " ")
        if not line.strip(" \u200b"):  # of no width, so that its column has none
            continue
        table = Table(title=line, caption=line)
        table.add_column(line)
        table.add_row(line)
        shown = printed(table, soft_wrap=False, color_system=None)
        assert shown.count(printable(line).strip()) >= 4, ascii(text)
        assert "\x1b[2J" not in shown
        assert printable(line).strip() in as_text(make_table("", [line], [["a"]]))


def test_bars_show_their_descriptions_as_they_are():
    for text in hostile_texts(60, seed=2):
        console = PlainConsole(file=io.StringIO(), force_terminal=True, width=300)
        bar = progress_bar(console)
        bar.add_task(text, total=1)
        shown = bar.columns[0].render(bar.tasks[0])
        assert isinstance(shown, Text)
        assert shown.plain == Text(printable(text)).plain


def test_a_bar_is_for_terminals():
    assert progress_bar(PlainConsole(file=io.StringIO())).disable
    assert progress_bar(PlainConsole(force_terminal=True), hidden=True).disable
    assert not progress_bar(PlainConsole(force_terminal=True)).disable


def test_say_and_complain_choose_the_stream(capsys):
    say("[red]a[/x]\n", end="")
    say("w" * 300)
    complain("[/x] :smile:")
    assert capsys.readouterr() == ("[red]a[/x]\n" + "w" * 300 + "\n", "[/x] :smile:\n")


def test_a_reader_that_has_had_enough_is_the_commands_affair():
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        PlainConsole(file=Closed()).print("a")
