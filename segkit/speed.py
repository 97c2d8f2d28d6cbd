"""How a speed is written."""

from __future__ import annotations


def rate(per_second: float) -> str:
    """Write a rate with one decimal, or with two significant digits below 1.

    >>> rate(12.345), rate(0.01234), rate(0)
    ('12.3', '0.012', '0')
    """
    return f"{per_second:.1f}" if per_second >= 1 else f"{per_second:.2g}"
