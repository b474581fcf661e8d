"""What all tests need of the process they run in."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest

# A shell without job control starts background jobs with SIGINT ignored, and children inherit that: tests
# that interrupt a command would fail when the suite runs in such a job, as on some CI machines.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests see what is computed, not what an earlier run has left in the user's cache; those of the cache bring
# one of their own.
os.environ["EDGEFX_CACHE_SIZE"] = "0"

# Where the long tests are, the longest first: at the end of a run only short files are left, which keep both
# processes busy.
_LONG = ("e2e", "contract")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders of long tests; a folder's order stays as it is."""
    items.sort(key=lambda item: _LONG.index(name) if (name := item.path.parent.name) in _LONG else len(_LONG))


@pytest.fixture(scope="module", autouse=True)
def _old_objects_are_no_garbage() -> None:
    """What is there when a file begins stays, such as TensorFlow: it is not searched for garbage again.

    Keras searches for each model that it builds, for half a second among the million objects of a long run.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for a file whose tests convert the same again and again, and do not ask how it is made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFX_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("EDGEFX_CACHE_SIZE", "1GB")
        yield


@pytest.fixture(scope="module")
def digits_once() -> Iterator[None]:
    """For a file that runs `digits` again and again, and does not ask how it is loaded."""
    from tests.loading import digits_once

    with digits_once():
        yield
