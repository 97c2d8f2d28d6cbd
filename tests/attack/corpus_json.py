"""JSON as an attacker or an accident leaves it: a valid document, changed by a case's number."""

import json
import random
from typing import Any

VALUES = (  # each is written as it stands, in the place of a value
    *("null", "true", "0", "-1", "1.5", "1e400", "NaN", "-Infinity", "[]", "{}", '""', "[[]]"),
    *("9" * 20, "9" * 5000, "1e-400", "[null]", "[1, 2]", '{"name": 3}', '{"name": "unet"}'),
    *('"x"', '"' + "a" * 5000 + '"', '"../../x"', '"\\u0000"', '"\\ud800"', '"\\u001b[31m"'),
    *('"[red]x[/x]"', '"=1+1"', '"$x^{"', '"/dev/null"', "[" * 60 + "]" * 60, "[" * 10_000),
    *('{"a": ' * 10_000, '"' + "a/" * 3000 + '"', "'", "nul", ",", "]", "}", "\x00", '{"a": 1,}'),
)


def mutate(text: str, case: int) -> str:
    """Change a JSON document in one to three places."""
    rng = random.Random(case)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        text = rng.choice((_value, _value, _value, _value, _key, _bytes))(text, rng)
    return text


def _value(text: str, rng: random.Random) -> str:
    """Put one of `VALUES` in the place of a value, at any depth."""
    found = _places(text)
    if not found:
        return text
    data, places = found
    holder, key = rng.choice(places)
    holder[key] = "PLACE"
    return json.dumps(data).replace('"PLACE"', rng.choice(VALUES), 1)


def _key(text: str, rng: random.Random) -> str:
    """Leave out a key or an item, or give it another name or twice."""
    found = _places(text)
    if not found:
        return text
    data, places = found
    holder, key = rng.choice(places)
    value = holder.pop(key)
    if isinstance(holder, list):
        holder += [value] * rng.choice((0, 2))
    elif rng.random() < 0.5:
        holder[rng.choice(("", "x", "name", "a" * 3000, "\0"))] = value
    return json.dumps(data)


def _bytes(text: str, rng: random.Random) -> str:
    """Cut, repeat or exchange a few characters."""
    start = rng.randrange(len(text) + 1)
    end = min(len(text), start + rng.choice((0, 1, 2, 10, 100)))
    odd = rng.choice(("", text[start:end] * 3, rng.choice(VALUES), chr(rng.randrange(1, 0xD7FF))))
    return text[:start] + odd + text[end:]


def _places(text: str) -> tuple[Any, list[tuple[Any, Any]]] | None:
    """Return the document and all (mapping or list, key) in it; None if it is broken by now."""
    try:
        data = json.loads(text)
        json.dumps(data)
    except (ValueError, RecursionError):
        return None
    found: list[tuple[Any, Any]] = []
    todo = [(data, 0)]
    while todo:
        each, depth = todo.pop()
        if isinstance(each, (dict, list)) and depth < 20:
            keys = list(each) if isinstance(each, dict) else list(range(len(each)))
            found += [(each, key) for key in keys]
            todo += [(each[key], depth + 1) for key in keys]
    return (data, found) if found else None
