"""The values of a card that have a form of their own: names, keys of a label map, patterns."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, PlainValidator

from segkit.errors import shorten

PLAIN = re.compile(r"\w[\w.-]{0,99}")
MAX_PATTERN = 200  # characters


def _raw_key(key: object) -> int | str:
    """Parse a key of a label map: a number, or a colour, normalised to `R G B`."""
    text = str(key).strip()
    if text.isdecimal() and int(text) <= 65535:
        return int(text)
    parts = text.replace(",", " ").split()
    if len(parts) == 3 and all(part.isdecimal() and int(part) <= 255 for part in parts):
        return " ".join(str(int(part)) for part in parts)
    raise ValueError(
        f"the key {shorten(key)} is neither a value (0 to 65535) nor a colour (128 64 0)"
    )


# What a mask file holds: a number, or a colour as "128 64 0"
RawKey = Annotated[int | str, PlainValidator(_raw_key)]


def _plain_name(name: str) -> str:
    """Refuse a name that could not be part of a file's."""
    if not PLAIN.fullmatch(name):
        raise ValueError(
            f"the name {name[:100]!r} becomes part of names of files; use letters, digits, '-', "
            "'_' and '.', and begin with a letter or a digit"
        )
    return name


def plain_name(text: str) -> str:
    """Return a text as the name of a card.

    >>> plain_name(".my photos (2)")
    'my_photos_2_'
    """
    return re.sub(r"[^\w.-]+", "_", text).lstrip(".-")[:100] or "data"


Name = Annotated[str, AfterValidator(_plain_name)]


def _with_a_group(pattern: str) -> str:
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"sequences has more than {MAX_PATTERN} characters; shorten it")
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"sequences is no regular expression: {error}") from error
    if groups < 1:
        raise ValueError("sequences needs a group that captures the video, e.g. ^([^_]+)_")
    return pattern


Pattern = Annotated[str, AfterValidator(_with_a_group)]
