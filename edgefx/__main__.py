"""Entry point of `edgefx` and `python -m edgefx`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from edgefx.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
