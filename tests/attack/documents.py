"""How documents of plain values are changed, whatever format they are written in."""

import random
from collections.abc import Callable, Sequence
from typing import Any

Way = Callable[[str, random.Random], str]


def changed(text: str, case: int, ways: Sequence[Way]) -> str:
    """Change a document in one to three places."""
    rng = random.Random(case)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        text = rng.choice(ways)(text, rng)
    return text


def any_place(data: Any, rng: random.Random) -> tuple[Any, Any] | None:
    """Return a (mapping or list, key) at any depth of a document; None if there is none."""
    found: list[tuple[Any, Any]] = []
    todo = [data]
    while todo:
        each = todo.pop()
        if isinstance(each, (dict, list)):
            keys = list(each) if isinstance(each, dict) else list(range(len(each)))
            found += [(each, key) for key in keys]
            todo += [each[key] for key in keys]
    return rng.choice(found) if found else None


def torn(text: str, rng: random.Random, values: Sequence[str]) -> str:
    """Cut, repeat or exchange a few characters."""
    start = rng.randrange(len(text) + 1)
    end = min(len(text), start + rng.choice((0, 1, 2, 10, 100)))
    odd = rng.choice(("", text[start:end] * 3, rng.choice(values), chr(rng.randrange(1, 0xD7FF))))
    return text[:start] + odd + text[end:]
