"""What importing TensorFlow does to the process, with stand-ins that say what they saw."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SEES = """
import gc
try:
    import sklearn
except ImportError:
    sklearn = None
saw = [sklearn is not None, gc.isenabled()]
"""


@pytest.mark.parametrize(("caller", "has_sklearn"), [("edgefx.cli", False), ("edgefx", True)])
def test_tensorflow_is_imported_with_what_a_command_needs(
    caller: str, has_sklearn: bool, tmp_path: Path
) -> None:
    """Who calls edgefx from Python keeps the wrappers of Keras for scikit-learn."""
    (tmp_path / "tensorflow.py").write_text(_SEES)
    (tmp_path / "sklearn.py").write_text("")
    code = f"""
import gc, sys
sys.path.insert(0, {str(tmp_path)!r})
import {caller}
from edgefx.models.backend import import_tensorflow
saw = import_tensorflow().saw
import sklearn
print(saw, gc.isenabled())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"[{has_sklearn}, False] True\n"
