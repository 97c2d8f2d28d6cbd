"""JSON as an attacker or an accident leaves it: a valid document, changed by a case's number."""

import json
import random
from typing import Any

from attack.documents import any_place, changed, torn

VALUES = (  # each is written as it stands, in the place of a value
    *("null", "true", "0", "-1", "1.5", "1e400", "NaN", "-Infinity", "[]", "{}", '""', "[[]]"),
    *("9" * 20, "9" * 5000, "1e-400", "[null]", "[1, 2]", '{"name": 3}', '{"name": "unet"}'),
    *('"x"', '"' + "a" * 5000 + '"', '"../../x"', '"\\u0000"', '"\\ud800"', '"\\u001b[31m"'),
    *('"[red]x[/x]"', '"=1+1"', '"$x^{"', '"/dev/null"', "[" * 60 + "]" * 60, "[" * 10_000),
    *('{"a": ' * 10_000, '"' + "a/" * 3000 + '"', "'", "nul", ",", "]", "}", "\x00", '{"a": 1,}'),
)


def mutate(text: str, case: int) -> str:
    """Change a JSON document in one to three places."""
    return changed(text, case, (_value, _value, _value, _value, _key, _characters))


def _value(text: str, rng: random.Random) -> str:
    """Put one of `VALUES` in the place of a value, at any depth."""
    data = _read(text)
    place = any_place(data, rng)
    if place is None:
        return text
    holder, key = place
    holder[key] = "PLACE"
    return json.dumps(data).replace('"PLACE"', rng.choice(VALUES), 1)


def _key(text: str, rng: random.Random) -> str:
    """Leave out a key or an item, or give it another name or twice."""
    data = _read(text)
    place = any_place(data, rng)
    if place is None:
        return text
    holder, key = place
    value = holder.pop(key)
    if isinstance(holder, list):
        holder += [value] * rng.choice((0, 2))
    elif rng.random() < 0.5:
        holder[rng.choice(("", "x", "name", "a" * 3000, "\0"))] = value
    return json.dumps(data)


def _characters(text: str, rng: random.Random) -> str:
    return torn(text, rng, VALUES)


def _read(text: str) -> Any:
    """Return the document; None if it is broken by now."""
    try:
        data = json.loads(text)
        json.dumps(data)
    except (ValueError, RecursionError):
        return None
    return data
