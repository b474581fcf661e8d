"""Every artifact's bytes and every figure of its report, kept, and compared with those of another version.

    python -m tests.benchmarks artifacts --keep before.json
    python -m tests.benchmarks artifacts --against before.json

makes all targets of `digits`, its INT8 targets with effort high and with training, and, where a folder
with real models is given, all targets of those. A change of structure leaves every byte as it was; on another
CPU or with other versions of the runtimes bytes may differ without any change. `--hardware CLASS` lays the
artifacts out for another class of CPU than this machine's, whose bytes can then be compared, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_INT8 = "tflite-int8,onnx-int8,openvino-int8"
# What differs from run to run: times, where files lie, what came from the cache.
_VARYING = frozenset(
    {
        "cached", "command", "convert_s", "created", "environment", "images_per_s", "latency", "path", "root",
        "seconds", "source", "summary", "timings",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One run."""

    name: str
    options: tuple[str, ...]


def main(options: list[str]) -> None:
    """Make all artifacts; keep what they are, or compare it."""
    parser = argparse.ArgumentParser(prog="artifacts", description=__doc__)
    parser.add_argument("--keep", type=Path, help="write what was made to this file")
    parser.add_argument("--against", type=Path, help="compare with what was kept in this file")
    parser.add_argument("--shared", type=Path, help="a folder with models/ and images/ of real models")
    parser.add_argument("--case", action="append", help="only this case; repeat it for more")
    parser.add_argument("--hardware", default="native", help="class of CPU, as `edgefx compile --hardware`")
    args = parser.parse_args(options)
    found: dict[str, Any] = {}
    for case in (*_digits(), *(_real(args.shared.resolve()) if args.shared else ())):
        if not args.case or case.name in args.case:
            begun = time.perf_counter()
            found[case.name] = _made(case, args.hardware)
            count = len(found[case.name]["files"])
            print(f"  {case.name:28} {count:2} files {time.perf_counter() - begun:7.1f} s", flush=True)
            if args.keep:
                args.keep.write_text(json.dumps(found, indent=1) + "\n")
    if args.against:
        kept = json.loads(args.against.read_text())
        different = [
            line for name, one in found.items() for line in _differences(kept.get(name, {}), one, name)
        ]
        print(
            "\n".join(f"  different: {line}" for line in different) or "  every byte and figure is the same"
        )
        sys.exit(1 if different else 0)


def _digits() -> Iterator[Case]:
    from edgefx.data import digits

    yield Case("digits", ("digits", "--target", "*"))
    yield Case("digits, effort high", ("digits", "--target", _INT8, "--effort", "high"))
    train = str(digits.calibration_folder())
    yield Case(
        "digits, qat distill",
        ("digits", "--target", _INT8, "--qat", "distill", "--train", train, "--epochs", "3"),
    )


def _real(shared: Path) -> Iterator[Case]:
    for name, calib, evaluation in (
        ("efficientnet_b0_flowers5", "flowers/train", "flowers/val"),
        ("efficientnetv2_b0_imagenet", "imagenet/calib", "imagenet/val"),
    ):
        images = shared / "images"
        where = ("--calib", str(images / calib), "--eval", str(images / evaluation), "--eval-limit", "40")
        yield Case(name, (str(shared / "models" / f"{name}.keras"), "--target", "*", *where))


def _made(case: Case, hardware: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edgefx", "-q", "compile", *case.options, "-o", folder]
        command += ["--hardware", hardware, "--no-benchmark", "--no-cache", "--json"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            sys.exit(f"{' '.join(command)}\n{ran.stderr}\nexit {ran.returncode}")
        report = json.loads(ran.stdout)
    files = {
        f"{target['target']}{Path(file['path']).suffix}": file["sha256"]
        for target in report["targets"]
        for file in target["artifact"]["files"]
    }
    return {"files": files, "report": _steady(report)}


def _steady(value: Any) -> Any:
    """Return what does not differ from run to run."""
    if isinstance(value, dict):
        return {key: _steady(one) for key, one in value.items() if key not in _VARYING}
    if isinstance(value, list):
        return [_steady(one) for one in value]
    return value


def _differences(before: Any, after: Any, where: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _differences(before.get(key), after.get(key), f"{where}: {key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _differences(old, new, f"{where}[{number}]")
    elif before != after:
        yield f"{where}: {before} -> {after}"


if __name__ == "__main__":
    main(sys.argv[1:])
