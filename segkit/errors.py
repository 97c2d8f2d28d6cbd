"""The one error that says: the caller, not segkit, has to change something."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user or caller; the message names the value, the place and the way out.

    The command line tools print it as one sentence and exit with code 2.

    Attributes:
        is_common: whether all processes of torchrun may meet it, so that one tells it for all.
    """

    is_common = True


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Build the error for a name that is in no table: lists the known ones and the nearest.

    >>> str(unknown_name("decoder", "unett", ["fcn", "unet"]))
    "unknown decoder 'unett'; did you mean 'unet'? Known: fcn, unet"
    """
    known = sorted(known)
    nearest = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return UserError(f"unknown {kind} '{name}'; {hint}Known: {', '.join(known)}")
