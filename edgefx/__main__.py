"""Entry point of `edgefx` and `python -m edgefx`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress

# errors.ExitCode, which is not imported yet when this is needed, and what is said.
_ENDED = {signal.SIGINT: (130, b"interrupted\n"), signal.SIGTERM: (143, b"terminated\n")}


def main() -> None:
    """Run the command line and exit with its code."""
    # An interruption while modules are imported, before the command line heeds it and after.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _leave)
    from edgefx.cli import run
    from edgefx.errors import ExitCode

    code = run(sys.argv[1:])
    if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        # CPython remembers a KeyboardInterrupt inside exec() of a string, as defining a dataclass is, even
        # when it is caught, and in the end kills itself by SIGINT instead of exiting with our code.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    gc.freeze()  # else all that TensorFlow leaves is searched for garbage, for a second
    sys.exit(code)


def _leave(number: int, _frame: object) -> None:
    code, word = _ENDED[signal.Signals(number)]
    with suppress(OSError):  # nobody reads it any more
        os.write(2, word)
    os._exit(code)


if __name__ == "__main__":
    main()
