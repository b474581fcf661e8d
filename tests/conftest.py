"""What all tests need of the process they run in."""

from __future__ import annotations

import os
import signal

# A shell without job control starts background jobs with SIGINT ignored, and children inherit that: tests
# that interrupt a command would fail when the suite runs in such a job, as on some CI machines.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests see what is computed, not what an earlier run has left in the user's cache; those of the cache bring
# one of their own.
os.environ["EDGEFX_CACHE_SIZE"] = "0"
