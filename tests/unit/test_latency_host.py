"""What is said of the machine that a figure was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import edgefx
from edgefx.system import cgroup, cpu, host

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8480+
flags\t\t: fpu sse avx2 avx512f avx512_vnni avx_vnni avx512_bf16 amx_bf16 amx_int8

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
PI5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""


def test_reads_x86() -> None:
    model, flags = cpu.parse_cpuinfo(X86)
    assert model == "Intel(R) Xeon(R) Platinum 8480+"
    assert host.named_features(flags) == (
        "AVX2", "AVX512F", "AVX512-VNNI", "AVX-VNNI", "AVX512-BF16", "AMX-INT8", "AMX-BF16",
    )  # fmt: skip


def test_reads_arm() -> None:
    model, flags = cpu.parse_cpuinfo(PI5)
    assert model == "Cortex-A76"
    assert host.named_features(flags) == ("NEON", "NEON-fp16", "NEON-dotprod")
    named, _ = cpu.parse_cpuinfo(f"model name : ARMv8 Processor rev 1 (v8l)\n{PI5}")  # some 64-bit kernels
    assert named == "Cortex-A76"
    unknown, _ = cpu.parse_cpuinfo(PI5.replace("0xd0b", "0xfff"))
    assert unknown == "Arm part 0xfff"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_reads_the_containers_cpu_quota(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup.cpu_quota(tmp_path) == quota
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert host.cores(tmp_path) == (usable if quota is None else max(1, min(usable, int(quota))))


def test_reads_the_containers_memory_limit(tmp_path: Path) -> None:
    unlimited = host.memory_mb(tmp_path)
    assert unlimited > 100
    (tmp_path / "memory.max").write_text("max\n")
    assert host.memory_mb(tmp_path) == unlimited
    (tmp_path / "memory.max").write_text("64000000\n")
    assert host.memory_mb(tmp_path) == 64


@pytest.mark.parametrize(
    ("line", "folder", "files"),
    [
        ("0::/a.slice/b.scope", "a.slice", ("memory.max", "memory.current", "inactive_file 1000000")),
        (
            "4:memory:/a/b",
            "memory/a/b",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file 1000000"),
        ),
    ],
    ids=["version 2, a group around ours", "version 1, ours"],
)
def test_reads_the_limits_of_the_groups_that_this_process_is_in(
    line: str, folder: str, files: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "membership").write_text(f"9:name=systemd:/\n{line}\n")
    monkeypatch.setattr(cgroup, "_MEMBERSHIP", tmp_path / "membership")
    for group in ("a.slice/b.scope", "memory/a/b"):
        (tmp_path / group).mkdir(parents=True)
    limit, used, cached = files
    (tmp_path / folder / limit).write_text("64000000\n")
    (tmp_path / folder / used).write_text("24000000\n")
    assert host.memory_mb(tmp_path) == 64
    assert host.available_bytes(tmp_path) == 40_000_000
    (tmp_path / folder / "memory.stat").write_text(f"cache 3\n{cached}\n")
    assert host.available_bytes(tmp_path) == 41_000_000
    (tmp_path / folder / limit).write_text("9223372036854771712\n")  # version 1 has no word for "none"
    assert host.memory_mb(tmp_path) > 100


def test_environment_is_this_machine_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from edgefx.system.host import environment; found = environment();"
        "heavy = {'tensorflow', 'keras', 'onnx', 'onnxruntime', 'openvino', 'numpy'} & set(sys.modules);"
        "print(found.edgefx, found.machine, found.cores, sorted(heavy), sorted(found.packages))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"{edgefx.__version__} {platform.machine()} {host.cores()} [] [")
    assert "'openvino'" in result.stdout


def test_absent_packages_have_no_version() -> None:
    assert set(host.versions(["numpy", "no-such-distribution-here"])) == {"numpy"}
