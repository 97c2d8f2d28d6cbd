"""YAML as an attacker or an accident leaves it: a valid document, changed by a case's number."""

import random
from typing import Any

import yaml
from attack.documents import any_place, changed, torn

VALUES = (  # each is written as it stands, in the place of a value
    *("", "~", "true", "0", "-1", "1.5", ".nan", ".inf", "1e400", "[]", "{}", "[[]]", "''"),
    *("9" * 20, "9" * 5000, "-" + "9" * 400, "0x" + "f" * 6000, "1:2:3", "2024-13-45", "1e-400"),
    *("2024-02-30T99:99:99", "!!int abc", "!!float x", "!!bool maybe", "!!timestamp x", "!!null x"),
    *("!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!binary '*'", "!!str [a]", "!!map 3"),
    *("!!python/object/apply:os.system [true]", "!!python/name:os.system", "!own x", "="),
    *("{1: 2}", "{~: 1}", "{true: 1}", "{[a]: 1}", "{{a: b}: 1}", "{1.5: x}", "{<<: 5}", "{? a}"),
    *("*nobody", "&a [*a]", "&b {c: *b}", "&a a", "[&a [1, 2], *a, *a]", "{<<: [{a: 1}, {b: 2}]}"),
    *('"\\0"', '"\\ud800"', '"\\U00110000"', '"\\UFFFFFFFF"', '"\\x1b[31m"', "'[red]x[/x]'"),
    *("a" * 5000, "/".join(["a" * 200] * 40), "../../x", "/dev/null", "/proc/self/mem", "$x^{"),
    *("[" * 10_000, "{a: " * 10_000, "[" * 60 + "]" * 60, "[" + "[]," * 5000 + "]", "'" * 99),
    *("(a+)+$", "(" * 99, "((a{9}){9}){9}", "(?P<a>x)(?P<a>y)", "a{99999999999999}", "[\\"),
    *("@", "`", "%", "- a", ": b", "\t", "| \n  a", "> x", "? x", "#", ",", "]", "}", "\x00"),
    *("{name: unet}", "{name: [unet]}", "{nmae: unet}", "unet", "[unet, unet]", "{name: 3}"),
    *("[{OneOf: 5}]", "[{OneOf: {transforms: 5}}]", "[{OneOf: {transforms: [5]}}]", "[5]"),
    *("[{OneOf: {transforms: [{5: {}}]}}]", "[{Resize: {height: -1}}]", "[{__class__: {}}]"),
    *("[{OneOf: !!set {a}}]", "[{Lambda: {image: x}}]", "[{a: {}, b: {}}]", "[OneOf]"),
)


def mutate(text: str, case: int) -> str:
    """Change a YAML document in one to three places."""
    return changed(text, case, (_value, _value, _value, _value, _key, _characters, _bomb))


def _value(text: str, rng: random.Random) -> str:
    """Put one of `VALUES` in the place of a value, at any depth."""
    data = _read(text)
    place = any_place(data, rng)
    if place is None:
        return text
    holder, key = place
    holder[key] = "PLACE"
    return yaml.safe_dump(data, sort_keys=False).replace("PLACE", rng.choice(VALUES), 1)


def _key(text: str, rng: random.Random) -> str:
    """Leave out a key, give it twice, move it, or make it a number or nonsense."""
    data = _read(text)
    place = any_place(data, rng)
    if place is None:
        return text
    holder, key = place
    value = holder[key]
    if isinstance(holder, list):
        holder.insert(key, value)
        return yaml.safe_dump(data, sort_keys=False)
    del holder[key]
    new = rng.choice((None, 3, -(10**30), "", "a" * 3000, "name", "transforms", "PLACE"))
    if new is not None:
        holder[new] = value
    written = yaml.safe_dump(data, sort_keys=False)
    return written.replace("PLACE", rng.choice(VALUES), 1)


def _characters(text: str, rng: random.Random) -> str:
    return torn(text, rng, VALUES)


def _bomb(text: str, rng: random.Random) -> str:
    """Add anchors that multiply what they name."""
    lines = ["x0: &x0 [" + "a," * 9 + "]"]
    for level in range(1, rng.choice((3, 9, 30))):
        lines.append(f"x{level}: &x{level} [" + f"*x{level - 1}," * 9 + "]")
    return "\n".join(lines) + "\n" + text


def _read(text: str) -> Any:
    """Return the document; None if it is broken by now."""
    try:
        data = yaml.safe_load(text) if len(text) < 20_000 and "*" not in text else None
        yaml.safe_dump(data)  # fails for a number of 6,000 digits
    except Exception:  # PyYAML's own, of all kinds
        return None
    return data
