"""Text that others chose (file, class and layer names), made harmless: a function for each output format.

A name may hold what a terminal obeys (ESC), what Markdown renders (an image that reports who reads it) or
what a browser runs. Renderers pass everything that they write through the function of their format. Standard
library only.
"""

from __future__ import annotations

import html
import re

# Controls, marks that reverse the direction of text, line separators, and what has no UTF-8 (a byte of a file
# name that is not UTF-8 is a lone surrogate in Python).
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PICTURES = 0x2400  # U+2400 and following show the controls: U+241B is ESC
_DELETE = 0x7F
_MARKDOWN = re.compile(r"[\\`*\[\]|<&@]")
# A backslash does not keep GitHub from telling people that they were mentioned.
_ENTITIES = {"<": "&lt;", "&": "&amp;", "@": "&#64;"}


def visible(text: str, *, keep: str = "") -> str:
    r"""Show characters that a terminal or a viewer would act on, one sign for each; all else is left alone.

    Args:
        text: Any text.
        keep: Characters to let through, such as "\n" in a text of several lines.
    """

    def shown(match: re.Match[str]) -> str:
        sign = match[0]
        if sign in keep:
            return sign
        code = ord(sign)
        if code < 0x20:
            return chr(_PICTURES + code)
        return "\u2421" if code == _DELETE else "\ufffd"

    return _INVISIBLE.sub(shown, text)


def line(text: str, *, most: int = 200) -> str:
    """Return text as one visible line of at most `most` characters; one that was cut ends in an ellipsis."""
    return visible(text if len(text) <= most else f"{text[: most - 1]}\u2026")


def markdown(text: str) -> str:
    """Write text for GitHub-flavoured Markdown: one line, and no cell, HTML, link, image or mention in it."""
    return _MARKDOWN.sub(lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), visible(text))


def html_text(text: str) -> str:
    """Write text for HTML, between tags or as a quoted attribute."""
    return html.escape(visible(text))


def json_text(document: str) -> str:
    """Escape in a JSON document what JSON may hold as it is but a terminal acts on, such as U+009B."""
    return _INVISIBLE.sub(
        lambda match: match[0] if match[0] in "\n\r\t" else f"\\u{ord(match[0]):04x}", document
    )
