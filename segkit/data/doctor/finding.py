"""One thing that is wrong with a data set, or may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

EXAMPLES = 5  # files named for each finding


@dataclass(frozen=True)
class Finding:
    """What was found, where, and how often.

    Args:
        severity: an error stops training, or makes its scores worthless.
        check: short name of what was looked at.
        split: where, or None for the whole set.
        text: what was found, with numbers and the way out.
        count: of files, pairs or classes concerned.
        examples: some of them.
        pictures: pairs of image files that show it, first and second split.
    """

    severity: Literal["error", "warning"]
    check: str
    split: str | None
    text: str
    count: int = 1
    examples: tuple[str, ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()


def few(names: Sequence[str]) -> tuple[str, ...]:
    """Keep as many names as are shown."""
    return tuple(names[:EXAMPLES])
