"""A comparison as one HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import jinja2

from segkit.comparison.written import Rows


def render(
    title: str, notes: Sequence[str], tables: dict[str, Rows], figure: bytes, caption: str
) -> str:
    """Write the page; it needs no other file.

    Args:
        title: of the page.
        notes: sentences on how it was made.
        tables: heading -> rows.
        figure: a PNG.
        caption: what it shows, also for those who do not see it.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("segkit.comparison", "."), autoescape=True, trim_blocks=True
    )
    return environment.get_template("comparison.html.j2").render(
        title=title,
        notes=notes,
        tables=tables,
        figure=base64.b64encode(figure).decode(),
        caption=caption,
    )
