"""How a result is shown in a notebook: results lie below the room that renders them and must not import it.

`edgefx.api`, which lies above both and through which a notebook gets every result, says what renders them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar


class Shown:
    """Base of the results that a notebook shows as a table.

    Attributes:
        html: Writes a result as HTML. None, as long as `edgefx.api` is not imported, leaves a result to be
            shown as Python shows it.
    """

    html: ClassVar[Callable[[object], str] | None] = None

    def _repr_html_(self) -> str | None:
        render = type(self).html
        return render(self) if render is not None else None
