"""What a run says while it runs: lines to the terminal and train.log, and progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from segkit.errors import UserError

PLAIN_EVERY_S = 20  # between two progress lines where there is no terminal


class RunConsole:
    """Prints to the terminal and appends to a log file.

    Args:
        log: the file.
        speaks: False for the processes of a run that keep silent.
    """

    def __init__(self, log: Path, speaks: bool = True) -> None:
        self.log = log
        self.speaks = speaks
        self.console = Console(highlight=False, soft_wrap=True, emoji=False, quiet=not speaks)

    def say(self, text: str) -> None:
        """Print a line and keep it.

        Raises:
            UserError: the log cannot be written.
        """
        if not self.speaks:
            return
        self.console.print(text, markup=False)
        try:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.log}: {error}") from error

    @contextmanager
    def progress(self, title: str, total: int, done: int = 0) -> Iterator[Ticker]:
        """Show progress: a bar on a terminal, now and then a line elsewhere."""
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not (self.speaks and self.console.is_terminal),
        )
        with bar:
            yield Ticker(self, bar, title, total, done)


class Ticker:
    """The moving part of a progress display."""

    def __init__(
        self, console: RunConsole, bar: Progress, title: str, total: int, done: int
    ) -> None:
        self.console = console
        self.bar = bar
        self.title = title
        self.total = total
        self.done = done
        self.task = bar.add_task(title, total=total, completed=done, note="")
        self.spoken = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether a note would be shown now; making one may cost a wait for the device."""
        wait = 0.5 if not self.bar.disable else PLAIN_EVERY_S
        return time.monotonic() - self.spoken >= wait

    def advance(self, steps: int = 1) -> None:
        """Count steps as done."""
        self.done += steps
        self.bar.update(self.task, advance=steps)

    def note(self, text: str) -> None:
        """Show a text beside the bar, or a line."""
        self.spoken = time.monotonic()
        self.bar.update(self.task, note=text)
        if self.bar.disable:
            self.console.say(f"{self.title}  {self.done}/{self.total}  {text}")


def clock(seconds: float) -> str:
    """Write a time span.

    >>> clock(75), clock(7384)
    ('1:15', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
