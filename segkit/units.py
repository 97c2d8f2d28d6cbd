"""Rates, times and sizes as people read them."""

from __future__ import annotations


def speed(rate: float) -> str:
    """Write images a second, or seconds an image where one takes longer than a second.

    >>> speed(12.34), speed(0.04)
    ('12.3 images/s', '25.0 s/image')
    """
    return f"{rate:.1f} images/s" if rate >= 1 else f"{1 / rate:.1f} s/image"


def clock(seconds: float) -> str:
    """Write a time span.

    >>> clock(75), clock(7384)
    ('1:15', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def megabytes(memory: int | None) -> str:
    """Write bytes as megabytes, and what is unknown as nothing.

    >>> megabytes(2_345_678_901), megabytes(None)
    ('2346', '')
    """
    return "" if memory is None else f"{memory / 1e6:.0f}"
