"""A device measured for what INT8 gains there: `edgefx device profile`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgefx.benchmarking import forms
from edgefx.benchmarking.devices.connect import DeviceChoice, connected
from edgefx.benchmarking.devices.local import HOST
from edgefx.benchmarking.devices.phone import Phone
from edgefx.errors import DeviceDependencyError, UsageError
from edgefx.hardware import HardwareProfile, RuntimeProfile
from edgefx.protocols import Progress
from edgefx.system import cpu, host
from edgefx.system.packages import require
from edgefx.targets import TARGETS, TargetRow
from edgefx.version import __version__
from edgefx.vocabulary import Hardware, Runtime

if TYPE_CHECKING:
    from edgefx.benchmarking.devices.remote import Remote
    from edgefx.results import Environment


def profile(
    choice: DeviceChoice,
    progress: Progress,
    *,
    runtimes: Sequence[Runtime] = (),
    threads: Sequence[int] = (),
    seconds: float,
) -> HardwareProfile:
    """Measure on a device which forms of convolution are faster in INT8.

    Args:
        choice: The device; this machine by default.
        progress: Shows what is done.
        runtimes: Of which runtimes; by default those of `forms.RUNTIMES` that are installed there and here.
        threads: Numbers of intra-op threads; by default one, and all cores.
        seconds: How long it may take.

    Raises:
        UsageError: It names no device, a number of threads that it does not have, or it has no runtime.
        MissingDependencyError: What writes the models is not installed here.
        BenchmarkError: A runtime failed there.
        DeviceError: The device cannot be reached, or is no longer there.
    """
    with connected(choice, progress) as there:
        if isinstance(there, Phone):
            raise UsageError(
                f"{there.name}: adb phones run TFLite only, whose INT8 artifacts leave nothing in float",
                hint="artifacts for it need no profile; to measure other runtimes there, reach it by ssh://",
            )
        environment = host.environment() if there is None else there.environment
        hardware = cpu.detect() if there is None else there.hardware
        counts = tuple(dict.fromkeys(threads or (1, environment.cores if there is None else there.threads)))
        if max(counts) > environment.cores:
            raise UsageError(
                f"--threads {max(counts)}: {choice.device} has {environment.cores} cores",
                hint=f"give at most {environment.cores}",
            )
        chosen = tuple(dict.fromkeys(runtimes)) or _installed(there, environment)
        for runtime in chosen:
            _check(runtime, there)
        times = forms.measure(
            HOST if there is None else there,
            hardware=hardware,
            runtimes=chosen,
            threads=counts,
            seconds=seconds,
            progress=progress,
        )
    found = {
        runtime: RuntimeProfile(package=_package(runtime, environment), times=tuple(times[runtime]))
        for runtime in chosen
    }
    return HardwareProfile(
        hardware=hardware,
        cpu=environment.cpu,
        cores=environment.cores,
        measured=datetime.now(UTC).date().isoformat(),
        edgefx=__version__,
        onnx=found.get(Runtime.ONNX),
        openvino=found.get(Runtime.OPENVINO),
    )


def _row(runtime: Runtime) -> TargetRow:
    return TARGETS[f"{runtime}-int8"]


def _package(runtime: Runtime, environment: Environment) -> str:
    name = _row(runtime).run_by[-1]
    return f"{name} {environment.packages.get(name, 'of unknown version')}"


def _installed(there: Remote | None, environment: Environment) -> tuple[Runtime, ...]:
    """Return the runtimes that can be measured.

    OpenVINO computes nothing in INT8 on Arm, whatever the model says.
    """
    arm = (Hardware.ARM, Hardware.ARM_DOTPROD, Hardware.ARM_I8MM)
    hardware = cpu.detect() if there is None else there.hardware
    found = tuple(
        runtime
        for runtime in forms.RUNTIMES
        if _row(runtime).run_by[-1] in environment.packages
        and not (runtime is Runtime.OPENVINO and hardware in arm)
    )
    if not found:
        packages = " or ".join(_row(runtime).run_by[-1] for runtime in forms.RUNTIMES)
        where = "this machine" if there is None else there.name
        raise DeviceDependencyError(
            f"{where} has no runtime to measure: {packages}",
            hint="run: pip install onnxruntime"
            if there is None
            else f"run: edgefx device setup {there.name} --runtime onnx",
        )
    return found


def _check(runtime: Runtime, there: Remote | None) -> None:
    """Raise where a runtime cannot be measured."""
    if runtime not in forms.RUNTIMES:
        raise UsageError(
            f"{runtime}: nothing of its INT8 artifacts is left in float",
            hint=f"choose of: {', '.join(forms.RUNTIMES)}",
        )
    require(*_row(runtime).engine_packages, purpose=f"measuring {runtime}")
    if there is not None and (reason := there.lacks(runtime)):
        raise DeviceDependencyError(
            f"{there.name}: {reason}", hint=f"run: edgefx device setup {there.name} --runtime {runtime}"
        )
