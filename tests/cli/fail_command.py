"""A command that ends in every way a real one can."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable

import click

from edgefx.cli.context import App, pass_app
from edgefx.errors import ConversionError, MissingDependencyError, UsageError


def _raise(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


def _write_to_full_disk() -> object:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/out.tflite")


def _wrapped_disk_full() -> object:
    try:
        _write_to_full_disk()
    except OSError as cause:
        raise ConversionError("the converter stopped") from cause
    return None


def _wait() -> object:
    print("waiting", flush=True)
    time.sleep(30)
    return 0


def _native_noise_then_stage() -> object:
    os.write(2, b"native last words\n")
    raise ConversionError("the converter refused")


def _native_noise_then_bug() -> object:
    os.write(2, b"native last words\n")
    raise ValueError("unexpected")


def _print_then_fail_gate() -> object:
    app = App.of(click.get_current_context())
    for _ in range(3):
        app.print("a result")
    app.write("{}")
    return 1


def _interrupted_in_a_callback() -> object:
    """As in a destructor or a native callback, where an exception is printed and forgotten."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with App.of(click.get_current_context()).task("the next piece of work"):
        raise AssertionError("work went on")


def _interruption_disguised() -> object:
    """As TensorFlow does when it is interrupted while it captures a function's arguments."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("Signature specifies 141 arguments, got: 140") from None
    return None


ENDINGS: dict[str, Callable[[], object]] = {
    "ok": lambda: None,
    "gate": lambda: 1,
    "printed-gate": _print_then_fail_gate,
    "usage": _raise(UsageError("--x cannot be", hint="leave it out")),
    "dependency": _raise(MissingDependencyError("openvino", needed_for="openvino-int8")),
    "module": _raise(ModuleNotFoundError("No module named 'yaml'", name="yaml")),
    "stage": _raise(
        ConversionError("the converter refused", hint="try float32", details=[f"op {i}" for i in range(30)])
    ),
    "noisy-stage": _native_noise_then_stage,
    "full": _write_to_full_disk,
    "wrapped-full": _wrapped_disk_full,
    "native-full": _raise(RuntimeError("ORT: write failed: No space left on device")),
    "memory": _raise(MemoryError()),
    "bug": _raise(ValueError("unexpected\nsecond line")),
    "noisy-bug": _native_noise_then_bug,
    "pipe-bug": _raise(BrokenPipeError(errno.EPIPE, "worker")),
    "interrupt": _raise(KeyboardInterrupt()),
    "abort": _raise(click.Abort()),
    "term": lambda: signal.raise_signal(signal.SIGTERM),
    "swallowed": _interrupted_in_a_callback,
    "disguised": _interruption_disguised,
    "wait": _wait,
}


@click.command()
@click.argument("ending", type=click.Choice(list(ENDINGS)))
@click.option("--log", is_flag=True)
@pass_app
def command(app: App, ending: str, log: bool) -> object:
    """End as asked."""
    if log:
        with app.native_log():
            return ENDINGS[ending]()
    return ENDINGS[ending]()
