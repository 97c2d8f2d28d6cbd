"""A problem of a data set, certain or possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]
EXAMPLES = 5  # files named for each finding


@dataclass(frozen=True)
class Finding:
    """A problem, where it is, and how often."""

    severity: Severity  # an error stops training, or makes its scores worthless
    check: str
    split: str  # a name, or two as "train and val"
    text: str  # the problem, with numbers and a remedy
    count: int = 1  # of affected files, pairs or classes
    examples: tuple[str, ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()  # pairs of image files that show it

    @classmethod
    def of(
        cls,
        severity: Severity,
        check: str,
        split: str,
        text: str,
        affected: Sequence[object],
        pictures: tuple[tuple[str, str], ...] = (),
    ) -> Finding:
        """Count the affected files, and take the first few as examples."""
        examples = tuple(str(file) for file in affected[:EXAMPLES])
        return cls(severity, check, split, text, len(affected), examples, pictures)
