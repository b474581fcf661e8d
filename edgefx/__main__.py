"""Entry point of `edgefx` and `python -m edgefx`."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

_INTERRUPTED = 130  # errors.ExitCode, which is not imported yet when this is needed


def main() -> None:
    """Run the command line and exit with its code."""
    # An interruption while modules are imported, before the command line heeds it and after.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from edgefx.cli import run
    from edgefx.errors import ExitCode

    code = run(sys.argv[1:])
    if code == ExitCode.INTERRUPTED:
        # CPython remembers a KeyboardInterrupt inside exec() of a string, as defining a dataclass is, even
        # when it is caught, and in the end kills itself by SIGINT instead of exiting with our code.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _leave(_number: int, _frame: object) -> None:
    with suppress(OSError):  # nobody reads it any more
        os.write(2, b"interrupted\n")
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
