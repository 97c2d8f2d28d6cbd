"""Texts as an attacker would put them into files: for paths, spreadsheets, consoles and figures."""

from __future__ import annotations

import random
from collections.abc import Iterator

PIECES = (
    *("..", "../", "/", "\\", "..\\", "C:\\", "~", "/etc/passwd", "./", "//", "%2e%2e/", "\0"),
    *("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", '"', "'", ",", ";", "\n", "=cmd|' /C calc'!A0"),
    *("[/x]", "[red]", "[/]", "[link=http://x]", "[", "]", "\\[", ":smile:", "\x1b[2J", "\x07"),
    *("$", "$\\frac{$", "\\", "{", "}", "^", "_", "$x^{$", "\\mathdefault"),
    *("\ud800", "\udcff", "\u202e", "\u200b", "é", "道路", "🚗", "a", "road", " ", ".", "-", "9"),
)


def hostile_texts(count: int, seed: int = 0) -> Iterator[str]:
    """Yield each piece alone, then random joins of up to five."""
    rng = random.Random(seed)
    yield from PIECES
    for _ in range(count):
        yield "".join(rng.choices(PIECES, k=rng.randint(1, 5)))
