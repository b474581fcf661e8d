"""`make bench` or `python -m tests.benchmarks [NAME] [OPTIONS]`: measurements, printed as ratios, not tests.

Without a name all of them run with their defaults (embedded model and images). With --store FILE, those that
give figures to keep (or the one that is named) run, and the figures are written to the file; with --against
FILE they are compared with those in it, and the exit code is 1 when one is worse by more than it may. See
`tests.benchmarks.stored`.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from .stored import Figure, StoredError, read, worse, write

BENCHMARKS = {
    "startup": "edgefx --help against importing click and rich",
    "throughput": "evaluation against a bare loop over images in memory, per runtime",
    "targets": "every target's accuracy against the float model, and latency against float32",
    "cached": "what the cache costs on the first run, and how long a run takes that changes nothing",
    "kills": "runs killed at random instants: the next one must succeed with the right bytes",
    "fuzz": "files of others, changed: each must be read or properly refused, in time and memory",
    "byhand": "three INT8 targets in one run against the three scripts one would write by hand",
    "believed": "top-1 of float, INT8 by hand and INT8 by edgefx on any number of labelled images",
    "artifacts": "every artifact's bytes and every figure of its report, against those of another version",
    "ablations": "what each tuned constant is worth: other values of it tried",
    "coverage": "whether the drop's interval holds what it says, and how often gates are wrong by chance",
    "drift": "how often drift is seen where there is none, and where there is some",
    "tasks": "what INT8 costs one score, several labels, quantities, embeddings and maps",
    "forms": "whether every form of model compiles, and what INT8 leaves of it, against the converters",
    "twins": "how well the same picture in another file is found",
    "onnx_forms": "which convolutions ONNX Runtime should compute in INT8 on this machine",
    "pays": "whether INT8 is faster where a hardware profile says so: compile, profile, compile again",
    "timing": "what the timing itself costs, against a bare loop over each runtime",
    "repeat": "whether a second measurement gives the same ratios, and as the first one's intervals say",
    "devices": "connections over SSH that are cut must leave nothing; ratios over SSH against those here",
    "emulated": "what artifacts answer on ARM CPUs, emulated, against what they answer here",
}
KEPT = ("startup", "throughput", "targets", "byhand")  # those that give figures to keep


def main(arguments: list[str]) -> int:
    """Run one benchmark, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", add_help=False)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--against", type=Path)
    # `artifacts` has an --against of its own, for bytes.
    own = "--against" not in arguments or arguments[0] != "artifacts"
    chosen, rest = parser.parse_known_args(arguments) if own else (argparse.Namespace(), arguments)
    store, against = getattr(chosen, "store", None), getattr(chosen, "against", None)
    name, *options = rest or [""]
    if name and name not in BENCHMARKS:
        listing = "\n".join(f"  {known:12} {what}" for known, what in BENCHMARKS.items())
        sys.exit(
            f"usage: python -m tests.benchmarks [NAME] [OPTIONS] [--store FILE] [--against FILE]\n{listing}"
        )
    try:
        kept = read(against) if against else {}
    except StoredError as error:
        print(error, file=sys.stderr)
        return 2
    found: dict[str, Figure] = {}
    names = (name,) if name else KEPT if store or against else tuple(BENCHMARKS)
    for one in names:
        print(f"\n{one}: {BENCHMARKS[one]}", flush=True)
        rows = import_module(f"tests.benchmarks.{one}").main(options) or {}
        found |= {f"{one}: {what}": row for what, row in rows.items() if isinstance(row, Figure)}
    if store:
        write(store, found)
        print(f"\n{len(found)} figures kept in {store}")
    if not against:
        return 0
    kept = {what: figure for what, figure in kept.items() if what.partition(":")[0] in names}
    lines = list(worse(kept, found))
    print("\n" + ("\n".join(f"  worse: {line}" for line in lines) or f"none of {len(kept)} figures is worse"))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
