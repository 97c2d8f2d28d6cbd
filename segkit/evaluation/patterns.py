"""A card's pattern against the names of images, within a limit of time: some patterns never end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from segkit.errors import UserError, shorten

LIMIT_S = 10.0
_PROGRAM = """\
import json, re, sys
pattern, names = json.load(sys.stdin)
found = map(re.compile(pattern).search, names)
json.dump([match and [match[1]] for match in found], sys.stdout)
"""


def groups_of(pattern: str, names: Sequence[str]) -> list[str | None]:
    """Return what the pattern's first group captures in each name, or the name if nothing fits.

    Another process does it, since nothing else stops a search.

    Raises:
        UserError: the pattern takes too long.
    """
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM]
    given = json.dumps([pattern, list(names)])
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=LIMIT_S)
        found = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise UserError(
            f"sequences: the card's pattern {shorten(pattern)} takes longer than {LIMIT_S:g} s for "
            f"{len(names)} names; write it without a repetition inside of another"
        ) from error
    return [match[0] if match else name for match, name in zip(found, names, strict=True)]
