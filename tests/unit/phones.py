"""A phone's side of a conversation over the debug bridge: no phone, but logs that others have published."""

from __future__ import annotations

from pathlib import Path

from edgefx.benchmarking.devices.adb import Adb

# An Android phone in 2025, through its log; XNNPACK takes most of a detector's nodes.
RECENT = """\
I tflite  : Min num runs: [25]
I tflite  : Num threads: [4]
I tflite  : Loaded model /data/local/tmp/best_int8.tflite
I tflite  : Created TensorFlow Lite XNNPACK delegate for CPU.
I tflite  : Replacing 539 out of 548 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 19 \
partitions for subgraph 0.
I tflite  : The input model file size (MB): 3.06409
I tflite  : Initialized session in 92.318ms.
I tflite  : count=3 first=235158 curr=200386 min=199462 max=235158 avg=211669 std=16613 p5=199462 \
median=200386 p95=235158
I tflite  : count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 \
median=141253 p95=187533
I tflite  : Inference timings in us: Init: 92318, First inference: 187533, Warmup (avg): 211669, Inference \
(avg): 145528
I tflite  : Memory footprint delta from the start of the tool (MB): init=54.2852 overall=73.4102
"""


def program(*, machine: int) -> bytes:
    """Return what begins as a program for Linux does, for a kind of CPU (ELF's e_machine)."""
    return b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + bytes(40)


class Conversation(Adb):
    """The shell's answers are logs like that above."""

    def __init__(self, *, restarts_after: int = 99, fails: str = "", abi: str = "arm64-v8a") -> None:
        self.name, self._serial, self._abi = "phone", "R58M", abi  # there need be no adb here
        self.said: list[str] = []
        self.pushed: list[str] = []
        self._restarts_after, self._fails = restarts_after, fails

    def shell(self, script: str, *, timeout_s: float = 60.0) -> tuple[int, str]:
        del timeout_s
        self.said.append(script)
        if "getprop ro.product.model" in script:
            cpuinfo = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd41\n"
            facts = ("Example", "Phone 1", "14", self._abi, "aarch64", "8", "MemTotal: 8000000 kB", cpuinfo)
            return 0, "".join(f"{one}\nedgefx-part\n" for one in (*facts, "boot-1"))
        if "--graph=" not in script:
            return 0, ""
        calls = sum("--graph=" in one for one in self.said)
        boot = "boot-1" if calls <= self._restarts_after else "boot-2"
        if self._fails and self._fails in script:
            return 1, f"{boot}\nedgefx-part\nERROR: Didn't find op for builtin opcode 'CONV_2D'\n"
        scale = 2 if "/0.tflite" in script else 1  # the first file is twice as slow
        log = RECENT.replace("median=141253", f"median={scale * (100_000 + 200 * calls)}")
        return 0, f"{boot}\nedgefx-part\n{log}"

    def push(self, path: Path, to: str) -> None:
        self.pushed.append(f"{path.name} {to.rpartition('/')[2]}")
