"""Templates of the HTML page and the model card, for Jinja."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.reporting.text import escape_markdown

FOLDER = Path(__file__).parent


def render_template(name: str, **values: Any) -> str:
    """Fill in a template; in HTML, values are escaped, in Markdown by the filter ``markdown``.

    Raises:
        jinja2.UndefinedError: The template uses a value that is not given.
    """
    import jinja2  # not needed for tables

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markdown"] = escape_markdown
    return environment.get_template(name).render(**values)
