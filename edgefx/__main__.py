"""Entry point of `edgefx` and `python -m edgefx`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line and exit with its code."""
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


if __name__ == "__main__":
    main()
