"""How much memory a latency worker may take: what this machine, or this container of it, has left.

A file of other origin can ask its runtime for any amount. Without a limit the system ends some process of its
choice; with one, the runtime's allocation fails, and the worker that asked is named.
"""

from __future__ import annotations

import contextlib
import sys

from edgefx.system.host import available_bytes

_LEAST_BYTES = 10**9  # whatever is said to be left: a runtime with a classifier takes some hundred MB


def limit(pid: int) -> None:
    """Limit what a process may allocate, where the system can (Linux).

    It is the data that is limited: an address space is no measure, as runtimes reserve far more of it than
    they use.
    """
    if sys.platform != "linux":
        return
    import resource

    most = max(available_bytes(), _LEAST_BYTES)
    with contextlib.suppress(OSError, ValueError):  # it has ended already, or has a lower limit
        resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))
