"""The one way to the terminal: names that come from files are shown, and nothing obeys them."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# control characters but for tab and newline, signs that turn the direction, halves of characters
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Write what a terminal would obey, or could not show, as escapes.

    >>> printable("road\\x1b[2J")
    'road\\\\x1b[2J'
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class PlainConsole(Console):
    """Prints texts as they are: brackets are no markup, and no control character is passed on.

    Args:
        options: of rich's console; lines are not wrapped unless `soft_wrap` is False.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **{"soft_wrap": True, **options})

    def render_str(self, text: str, *args: Any, **options: Any) -> Text:
        """Turn a string, also a cell or a title of a table, into what is printed."""
        plain = {**options, "markup": False, "emoji": False}
        return super().render_str(printable(text), *args, **plain)

    def on_broken_pipe(self) -> None:
        """Leave it to the command what follows, as `print` does."""
        raise


class PlainColumn(TextColumn):
    """A text beside a progress bar, as it is."""

    def render(self, task: Task) -> Text:
        """Fill in the text."""
        return Text(printable(self.text_format.format(task=task)), style=self.style)


def progress_bar(console: Console, *more: ProgressColumn, hidden: bool = False) -> Progress:
    """Return a progress bar that vanishes at the end, and shows on a terminal alone.

    Args:
        console: to show it on.
        more: columns behind the usual ones.
        hidden: show nothing at all.
    """
    return Progress(
        PlainColumn("{task.description}", style="progress.description"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        *more,
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    )


def say(text: str = "", end: str = "\n") -> None:
    """Print a text."""
    PlainConsole().print(text, end=end)


def complain(text: str) -> None:
    """Print a text on the error stream."""
    PlainConsole(stderr=True).print(text)
