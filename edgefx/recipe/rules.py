"""What goes with what in a recipe: contradictions that no single key shows. Nothing heavy is imported.

`edgefx.recipe.crosscheck` asks with what a file says, and shows where; `edgefx.pipeline.plan` asks with what
holds for each target, whoever made the recipe. Messages name keys in braces: see `options.Wording`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from edgefx.errors import UsageError
from edgefx.metrics import METRICS, Origin
from edgefx.models.scaling import named
from edgefx.models.zoo import known
from edgefx.recipe.requests import Problem, Request, TargetRequest
from edgefx.targets import ALL, TARGETS
from edgefx.vocabulary import HOST, Ending, IoDtype, Precision, Ranges, TargetKind, is_on_host

# Keys that limit a figure, and what must be done to know it.
_LIMITED = {f"gates.{row.gate}": row.origin for row in METRICS.values() if row.gate}
LIMITED = {**_LIMITED, "quantize.budget": Origin.ACCURACY}

COMPRESSION = ("quantize.cluster", "quantize.prune")
_COMPRESSED = [name for name, row in ALL.items() if row.compresses_weights and row.kind is not TargetKind.NPU]
_INTEGER_ONLY = [name for name, row in TARGETS.items() if row.integer_only]

K = TypeVar("K", bound=Hashable)

Rule = Callable[[Request], Iterable[Problem]]


def problems(request: Request) -> Iterator[Problem]:
    """Yield what is wrong, rule by rule, target by target."""
    for rule in RULES:
        yield from rule(request)


def merged(found: Iterable[Problem], place: Callable[[Problem], K]) -> Iterator[tuple[K, Problem]]:
    """Say the same of several targets in the same place once; ``{target}`` is replaced by their names."""
    together: dict[tuple[K, Problem], list[str]] = {}
    for problem in found:
        together.setdefault((place(problem), replace(problem, target="")), []).append(problem.target)
    for (where, problem), names in together.items():
        listed = ", ".join(dict.fromkeys(names))
        yield where, replace(problem, message=problem.message.replace("{target}", listed), target=names[0])


# ------------------------------------------------------------------------------------------ single targets


def _method(request: Request) -> Iterator[Problem]:
    if request.method != "none":
        return
    for target in request.targets:
        if target.row.needs_calibration:
            yield Problem(
                message="{quantize.method:none} makes float artifacts, not {target}",
                key="targets",
                target=target.row.name,
                hint="write {quantize.method=ptq}",
            )


def _quantized(request: Request) -> Iterator[TargetRequest]:
    """Yield the targets but for those that method none cannot make anyway."""
    return (one for one in request.targets if request.method != "none" or not one.row.needs_calibration)


def _integer_only(request: Request) -> Iterator[Problem]:
    for target in _quantized(request):
        if target.integer_only and not target.row.integer_only:
            yield Problem(
                message="{quantize.integer_only} is not possible for {target}: float operations remain",
                key="quantize.integer_only",
                target=target.row.name,
                hint=f"fully integer artifacts: {', '.join(_INTEGER_ONLY)}",
            )


def _integer_ends(request: Request) -> Iterator[Problem]:
    """Float ends are conversions in the artifact; where there are no others, the report names them."""
    for target in request.targets:
        possible = [dtype for dtype in target.row.io_dtypes if dtype is not IoDtype.FLOAT32]
        is_integer = target.integer_only and target.row.integer_only
        if is_integer and IoDtype.FLOAT32 in target.io_dtypes and possible:
            yield Problem(
                message="{io_dtype:float32} contradicts {quantize.integer_only}: {target} would begin and end"
                " with float operations",
                key="io_dtype",
                target=target.row.name,
                hint=f"leave {{io_dtype}} out, or choose {' or '.join(possible)}",
            )


def _compression(request: Request) -> Iterator[Problem]:
    """Of float targets nothing is asked, unless there are no others."""
    helps = any(target.row.compresses_weights for target in request.targets)
    for target in _quantized(request):
        for key in target.compression:
            if not target.row.compresses_weights:
                if helps and not target.row.needs_calibration:
                    continue
                yield Problem(
                    message=f"{{{key}}} is not possible for {{target}}",
                    key=key,
                    target=target.row.name,
                    hint=f"possible: {', '.join(_COMPRESSED)}, and NPUs; an item of 'targets' may say so for"
                    " it alone",
                    at_key=True,
                )


def _float_layers(request: Request) -> Iterator[Problem]:
    for target in request.targets:
        if target.integer_only and target.keeps_float:
            yield Problem(
                message="{quantize.keep_float} contradicts {quantize.integer_only}",
                key="quantize.keep_float",
                target=target.row.name,
                hint="leave one of them out",
                at_key=True,
            )


def _ranges(request: Request) -> Iterator[Problem]:
    for target in _quantized(request):
        possible = target.row.ranges
        if possible and target.ranges not in possible and target.ranges in set(Ranges):
            yield Problem(
                message=f"{{quantize.ranges:{target.ranges}}} is not possible for {{target}}",
                key="quantize.ranges",
                target=target.row.name,
                hint=f"possible: {', '.join(possible)}; an item of 'targets' may say so for it alone",
            )


def _ends(request: Request) -> Iterator[Problem]:
    for target in _quantized(request):
        for dtype in target.io_dtypes:
            if dtype in target.row.io_dtypes:
                continue
            yield Problem(
                message=f"{{io_dtype:{dtype}}} is not possible for {{target}}",
                key="io_dtype",
                target=target.row.name,
                hint=f"choose {' or '.join(target.row.io_dtypes)}, or say it for other targets alone"
                if len(target.row.io_dtypes) > 1
                else "integer input and output exist for the int8 targets; say it for these alone",
            )


# ------------------------------------------------------------------------------------------------ training


def _training(request: Request) -> Iterator[Problem]:
    if not request.is_trained:
        return
    if not request.trains:
        yield Problem(
            message="{quantize.method:qat} needs training images",
            key="quantize.method",
            hint="{quantize.train=photos/train}",
        )
    if request.smooths and request.mode != "supervised":
        yield Problem(
            message="{quantize.label_smoothing} is for mode supervised; mode distill learns from scores, not"
            " labels",
            key="quantize.label_smoothing",
            hint="take it out, or write {quantize.mode=supervised}",
            at_key=True,
        )


def _trained_targets(request: Request) -> Iterator[Problem]:
    if not request.is_trained or not request.targets:
        return
    if not any(target.row.precision is Precision.INT8 for target in request.targets):
        names = ", ".join(target.row.name for target in request.targets)
        yield Problem(
            message=f"{{quantize.method:qat}} trains for INT8, not for {names}",
            key="quantize.method",
            hint="add an int8 target, or train for none",
        )
    trained = [target for target in request.targets if target.row.precision is Precision.INT8]
    if len({target.channels for target in trained}) > 1:
        yield Problem(
            message="{quantize.method:qat} trains one graph, and channels are removed differently for"
            f" {', '.join(target.row.name for target in trained)}",
            key="quantize.prune",
            hint="remove the same channels for all, or compile them in runs of their own",
        )
    for target in request.targets:
        name, is_int8 = target.row.name, target.row.precision is Precision.INT8
        if target.row.needs_calibration and not is_int8:
            yield Problem(
                message="{quantize.method:qat} does not make {target}",
                key="targets",
                target=name,
                hint="compile it in a run without training",
            )
        if is_int8 and target.keeps_float:
            yield Problem(
                message="{quantize.method:qat} cannot leave layers in float, for {target}",
                key="quantize.keep_float",
                target=name,
                hint="leave {quantize.keep_float} out, or do not train",
                at_key=True,
            )
        if is_int8 and target.ends == Ending.LOGITS:
            yield Problem(
                message="{quantize.method:qat} makes artifacts that end as the model, for {target}",
                key="ends",
                target=name,
                hint="leave {ends} out, or do not train",
            )
        if is_int8 and "quantize.budget" in target.limits:
            yield Problem(
                message="{quantize.method:qat} has no budget to search for, for {target}",
                key="quantize.budget",
                target=name,
                hint="leave the budget out; {gates.max_drop} judges what was trained",
                at_key=True,
            )


# -------------------------------------------------------------------------------------------- images, model


def _calibration(request: Request) -> Iterator[Problem]:
    quantized = [target.row.name for target in request.targets if target.row.needs_calibration]
    needing = quantized or [target.row.name for target in request.targets if target.channels]
    if not request.model or request.has_calibration:
        return
    if needing and request.method != "none":
        what = "set activation ranges" if quantized else "choose by which channels to remove"
        yield Problem(
            message=f"{', '.join(needing)} need{'s'[: len(needing) < 2]} calibration images to {what}",
            key="targets",
            target=needing[0],
            hint="{calibration.images=photos/}, about 100 typical ones; labels are not needed",
        )
    if request.samples:
        yield Problem(
            message="{calibration.samples} says how many images of {calibration.images} to use",
            key="calibration.samples",
            hint="{calibration.images=photos/}",
            at_key=True,
        )


def _limits(request: Request) -> Iterator[Problem]:
    """What is limited must be measured."""
    has_images = request.evaluation or request.has_calibration or not request.model
    unmeasured = "{evaluate!}" if not request.evaluates else "" if has_images else "there are no images"
    if request.explains and unmeasured:
        yield Problem(
            message=f"{{report.explain}} needs answers to compare, which there are none of: {unmeasured}",
            key="report.explain",
            hint="give images, as {evaluate.images=photos/test}, or leave {report.explain} out",
            at_key=True,
        )
    for target in request.targets:
        for key in target.limits:
            if LIMITED[key] is Origin.ACCURACY and unmeasured:
                yield Problem(
                    message=f"{{{key}}} needs accuracy, which is not measured: {unmeasured}",
                    key=key,
                    target=target.row.name,
                    hint="give images, as {evaluate.images=photos/test}, with a sub-folder per class or"
                    " labels.csv",
                    at_key=True,
                )
            if LIMITED[key] is not Origin.LATENCY or target.row.kind is not TargetKind.RUNTIME:
                continue
            if not request.benchmarks:
                yield Problem(
                    message=f"{{{key}}} needs latency, which is not measured: {{benchmark!}}",
                    key=key,
                    target=target.row.name,
                    hint="take '{benchmark}' out to measure it",
                    at_key=True,
                )
            elif not is_on_host(request.devices):
                yield Problem(
                    message=f"{{{key}}} limits the latency on this machine, which is not measured:"
                    " {benchmark.devices} names others",
                    key=key,
                    target=target.row.name,
                    hint="limit what they measure, by the device (as {gates.devices} takes it,"
                    f" '{request.devices[0]}: p95_ms <= 20'), or name {HOST}, too, in {{benchmark.devices}}",
                    at_key=True,
                )
    if request.prices and request.benchmarks and not is_on_host(request.devices):
        yield Problem(
            message="{benchmark.price_per_hour} is of an hour of this machine, where no latency is measured:"
            " {benchmark.devices} names others",
            key="benchmark.price_per_hour",
            hint=f"take it out, or name {HOST}, too, in {{benchmark.devices}}",
            at_key=True,
        )


# What a kind of target is called, and how to ask for one, or limit what is known of the others instead.
_KINDS = {
    TargetKind.RUNTIME: (
        "artifacts that run here",
        "limit the compiler's estimate: {gates.max_estimated_ms=20}",
    ),
    TargetKind.NPU: ("NPUs", "name one: {targets=ethos-u55-128}"),
    TargetKind.MCU: ("microcontrollers", "name one: {targets=tflm-int8}"),
}


def _kinds(request: Request) -> Iterator[Problem]:
    """What is said of one kind of target must concern one that is asked for."""
    kinds = {target.row.kind for target in request.targets}
    for target in request.targets:
        said = [(key, LIMITED[key].kind) for key in target.limits]
        said += [(key, TargetKind.NPU) for key in target.npu_options]
        for key, kind in said:
            takes = {kind, TargetKind.MCU} if key == "npu.optimise" else {kind}
            if kind is not None and not takes & kinds:
                what, instead = _KINDS[kind]
                yield Problem(
                    message=f"{{{key}}} is for {what}, and says nothing of {{target}}",
                    key=key,
                    target=target.row.name,
                    hint=instead,
                    at_key=True,
                )


def _devices(request: Request) -> Iterator[Problem]:
    """What is limited on a device must be measured there."""
    made = [target.row.name for target in request.targets if not target.row.is_compiled]
    for scope, gates in request.device_gates.items():
        for gate in gates:
            for name in gate.devices:
                if name not in request.devices:
                    yield Problem(
                        message=f"{{gates.devices}} limits what '{name}' measures, no device of this run",
                        key="gates.devices",
                        item=scope,
                        hint=f"{{benchmark.devices={name}}}",
                    )
            for pattern in gate.targets:
                if made and not fnmatch.filter(made, pattern):
                    yield Problem(
                        message=f"{{gates.devices}} limits '{pattern}', which is no target of this run",
                        key="gates.devices",
                        item=scope,
                        hint=f"targets: {', '.join(made)}",
                    )
            origin = METRICS[gate.metric].origin
            if origin is Origin.ARTIFACT or (origin is Origin.ACCURACY and not request.evaluates):
                why = "it is the same on all devices" if origin is Origin.ARTIFACT else "{evaluate!}"
                yield Problem(
                    message=f"{{gates.devices}} limits {gate.metric}, which is not measured there: {why}",
                    key="gates.devices",
                    item=scope,
                    hint="limit what is measured on devices: accuracy and latency",
                )


def _zoo(request: Request) -> Iterator[Problem]:
    if not request.model or known(request.model) is not None:
        return
    for key in request.for_zoo:
        yield Problem(
            message=f"{{{key}}} is for models by name; a file has its own",
            key=key,
            hint="take it out",
            at_key=True,
        )


def _scaling(request: Request) -> Iterator[Problem]:
    try:
        named(request.model, request.scaling if request.model else {}, input_size=request.input_size)
    except UsageError as error:
        yield Problem(message=error.message, key=f"model.{next(iter(request.scaling))}", hint=error.hint)


RULES: tuple[Rule, ...] = (
    _method,
    _integer_only,
    _integer_ends,
    _float_layers,
    _compression,
    _ranges,
    _ends,
    _training,
    _trained_targets,
    _calibration,
    _limits,
    _kinds,
    _devices,
    _zoo,
    _scaling,
)
