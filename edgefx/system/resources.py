"""Where the files that ship beside the code are: `recipes/` and `calibration/`.

A wheel carries them inside the package (``force-include`` in pyproject.toml); an editable install has them
at the top of the checkout. Look in the package first, then beside it.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: str) -> Path:
    """Return the shipped folder `name` ("recipes" or "calibration").

    Raises:
        FileNotFoundError: The installation is incomplete.
    """
    for candidate in (_PACKAGE / "_resources" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"edgefx's '{name}' folder is missing from this installation: {_PACKAGE}")
