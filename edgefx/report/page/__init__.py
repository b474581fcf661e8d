"""Pages: one self-contained HTML file each, from the templates, the style and the script in ``assets``.

A page loads nothing from elsewhere, which its Content-Security-Policy also forbids; it can be read without
JavaScript. Whatever a template writes is escaped, and what a viewer would act on is shown as a sign.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.harmless import visible

if TYPE_CHECKING:
    from jinja2 import Environment

_ASSETS = Path(__file__).parent / "assets"


def write(template: str, **context: Any) -> str:
    """Return a page that ends in a newline.

    Args:
        template: The name of a file in ``assets``.
        context: What it shows.
    """
    return _environment().get_template(template).render(**context).rstrip() + "\n"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    style, script = ((_ASSETS / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    # Both are files of this package.
    made.globals["style"] = Markup(style)  # noqa: S704
    made.globals["script"] = Markup(script)  # noqa: S704
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made.globals["policy"] = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}';"
        " base-uri 'none'; form-action 'none'"
    )
    return made
