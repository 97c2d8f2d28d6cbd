"""The one error that says: the caller, not segkit, has to change something."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

OUT_OF_MEMORY = ("DefaultCPUAllocator", "MPS backend out of memory")  # in a RuntimeError of torch's
LONGEST = 200  # characters of a value or a name in an error


class UserError(ValueError):
    """A mistake of the user or caller; the message names the value, the place and the way out.

    The command line tools print it as one sentence and exit with code 2.

    Attributes:
        is_common: whether all processes of torchrun may meet it, so that one tells it for all.
    """

    is_common = True


class OutOfMemory(UserError):
    """A part of the work does not fit in memory; torchrun's processes say which of them it was."""


def as_mistake(error: Exception) -> UserError | None:
    """Return an error as a user's mistake, which it is where the system refuses something, too.

    Any look at a path may be the first, and any line the one that memory is too small for.

    Returns:
        None for other errors, which are segkit's.
    """
    if isinstance(error, UserError):
        return error
    if is_out_of_memory(error):
        return OutOfMemory(
            f"memory is full ({str(error) or 'Python has none left'}); take smaller batches or "
            "images, fewer data.workers, or end other programs; --debug shows where it was"
        )
    if not isinstance(error, OSError):
        return None
    if error.filename is None:
        return UserError(f"the system refuses something: {error}; --debug shows what it was")
    return UserError(
        f"cannot use {error.filename}: {error.strerror}; mend that, or name another path"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Return whether the memory of the CPU, or of MPS, is full; CUDA has an error of its own."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Build the error for a name that is in no table: lists the known ones and the nearest.

    >>> str(unknown_name("decoder", "unett", ["fcn", "unet"]))
    "unknown decoder 'unett'; did you mean 'unet'? Known: fcn, unet"
    """
    known = sorted(known)
    near = nearest(str(name), known)
    hint = f"did you mean '{near}'? " if near else ""
    return UserError(f"unknown {kind} {shorten(str(name))}; {hint}Known: {', '.join(known)}")


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return what a mistyped name may stand for; None if nothing resembles it.

    Long names are left out, as the time grows with the square of their length.
    """
    if len(name) > LONGEST:
        return None
    short = [each for each in known if len(each) <= LONGEST]
    return next(iter(difflib.get_close_matches(name, short, n=1, cutoff=cutoff)), None)


def shorten(value: object) -> str:
    """Return a value as errors show it: the beginning of a long one.

    >>> shorten("a" * 1000)[-8:]
    'aaaa ...'
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of more than 4,300 digits, or nesting
        return f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
