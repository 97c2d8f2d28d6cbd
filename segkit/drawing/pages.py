"""HTML pages that stand alone: Jinja templates, with pictures inside."""

from __future__ import annotations

import base64
import io
from typing import Any

import jinja2
from PIL import Image


def render(package: str, template: str, **values: Any) -> str:
    """Fill in a template that lies in a package; an unknown name in it is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(**values)


def picture_url(image: Image.Image, **options: Any) -> str:
    """Return an image as a data URL; the options are those of Pillow's WebP writer."""
    file = io.BytesIO()
    image.save(file, "WEBP", **options)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
