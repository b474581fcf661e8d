"""`make bench` or `python -m tests.benchmarks [NAME] [OPTIONS]`: measurements, printed as ratios, not tests.

Without a name all of them run with their defaults (embedded model and images).
"""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = {
    "startup": "edgefx --help against importing click and rich",
    "throughput": "evaluation against a bare loop over images in memory, per runtime",
    "cached": "what the cache costs on the first run, and how long a run takes that changes nothing",
    "kills": "runs killed at random instants: the next one must succeed with the right bytes",
    "fuzz": "files of others, changed: each must be read or properly refused, in time and memory",
    "byhand": "three INT8 targets in one run against the three scripts one would write by hand",
    "artifacts": "every artifact's bytes and every figure of its report, against those of another version",
    "ablations": "what each tuned constant is worth: other values of it tried",
    "onnx_forms": "which convolutions ONNX Runtime should compute in INT8 on this machine",
}


def main() -> None:
    """Run one benchmark, or all."""
    name, *options = sys.argv[1:] or [""]
    if name and name not in BENCHMARKS:
        listing = "\n".join(f"  {known:12} {what}" for known, what in BENCHMARKS.items())
        sys.exit(f"usage: python -m tests.benchmarks [NAME] [OPTIONS]\n{listing}")
    for chosen in (name,) if name else BENCHMARKS:
        print(f"\n{chosen}: {BENCHMARKS[chosen]}", flush=True)
        import_module(f"tests.benchmarks.{chosen}").main(options)


if __name__ == "__main__":
    main()
