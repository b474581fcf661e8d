"""What a report must say in words, whatever its format (DESIGN: contract 2, honesty)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from edgefx.measured import ComparedAnswers, Match
from edgefx.metrics import METRICS
from edgefx.report.text import counted, ms, percent, ratio, seconds
from edgefx.results import CachedStage, DeviceResult, Latency, RunReport, SearchResult, TargetResult
from edgefx.runtimes.hardware import WEIGHTS_ONLY
from edgefx.training import TrainingEffect, TrainingResult
from edgefx.types import DataInfo, ModelTask, OutputKind, Precision, StageKind
from edgefx.verdicts import GateResult, Verdict
from edgefx.vocabulary import ScoreFunction

# Below this, a difference between two interleaved medians on one machine does not matter.
_SLOWER_FROM = 1.02
_LAYERS_SHOWN = 6
_KEY_SHOWN = 12  # of a cache entry's key; report.json has all of it
# What some precisions are called where it is told what they run in.
_RUNS_IN: dict[str, tuple[str, ...]] = {
    Precision.DYNAMIC: ("int8 weights, dynamic activations", "int8+float32"),
    Precision.WEIGHT_INT8: ("float32, int8 weights", "float32"),
    Precision.INT16X8: ("int8 weights, int16 activations",),
}
_QUANTIZED = (Precision.DYNAMIC, Precision.WEIGHT_INT8, Precision.INT8, Precision.INT16X8)

USED = {"calibration": "calibrated on", "training": "trained on", "evaluation": "evaluated on"}


def is_slower(result: TargetResult) -> bool:
    """Whether a quantized artifact is slower than the same runtime's float32 artifact, beyond the noise."""
    latency = result.latency
    if _precision(result) not in _QUANTIZED or latency is None or latency.ratio_to_float is None:
        return False
    return latency.ratio_ci95 is not None and latency.ratio_ci95[0] >= _SLOWER_FROM and not latency.noisy


def doubts(report: RunReport) -> Iterator[str]:
    """Say what makes the accuracies doubtful, each reason once, with what to do: a report begins with it."""
    for doubt in report.doubts:
        yield f"{doubt.reason}; {doubt.advice}"
    by_reason: dict[str, list[str]] = {}
    for result in report:
        for doubt in result.doubts:
            by_reason.setdefault(f"{doubt.reason}; {doubt.advice}", []).append(result.target)
    everywhere = len(report.targets)
    for text, targets in by_reason.items():
        yield text if len(targets) == everywhere > 1 else f"{', '.join(targets)}: {text}"


def gates(report: RunReport) -> Iterator[GateResult]:
    """Yield every gate that was judged, here and on devices."""
    yield from (gate for result in report for gate in result.gates)
    yield from (gate for device in report.devices for one in device.targets for gate in one.gates)


def measured_on(report: RunReport) -> Iterator[tuple[str, str]]:
    """Say what the figures stand on: baseline, images, device."""
    images = max((result.accuracy.images for result in report if result.accuracy), default=None)
    if report.baseline_top1 is not None and images is not None:
        top5 = f", top-5 {percent(report.baseline_top5)}" if report.baseline_top5 is not None else ""
        yield (
            "baseline",
            (
                f"top-1 {percent(report.baseline_top1)}{top5}: float Keras model, same"
                f" {counted(images, 'image')}"
            ),
        )
    elif images is not None:
        without = ", without labels" if report.model.task.classifies else ""
        yield "baseline", f"the float Keras model on the same {counted(images, 'image')}{without}"
    if report.model.first is not None and images is not None:
        first = report.model.first.name
        yield "outputs", f"the table of targets, and limits that name no output, are about {first}"
    if report.model.task is ModelTask.EMBEDDING and images is not None:
        yield (
            "top-1, agree",
            (
                "of a search: whether the nearest other image among the float model's vectors has the image's"
                " class, and whether it is the one that the float model finds"
            ),
        )
    if report.canonical_max_abs_dp is not None:
        of = "the largest value" if report.model.output is OutputKind.VALUES else "a probability"
        yield "graph", f"within {report.canonical_max_abs_dp:.1e} of {of} of the model as loaded"
    for data in report.data:
        yield USED.get(data.role, data.role), data_line(data)
    latency = next((result.latency for result in report if result.latency), None)
    if latency is not None:
        cpu, threads = report.environment.cpu, latency.threads
        where = f"host latency ({cpu}), not an edge device"
        if latency.device != "host":
            where = f"on {latency.device}"
        how = f"batch 1, {counted(threads, 'thread')}"
        before = next((one for one in report.cached if one.stage is StageKind.BENCHMARK), None)
        if before is not None:  # figures of another day, maybe under another load, must not pass for today's
            how += f"; not measured now but on {before.created} (cache entry {before.key[:_KEY_SHOWN]})"
        yield "latency", f"{where}; {how}; x float: over float32 of the same runtime"


def from_cache(report: RunReport) -> Iterator[tuple[str, str]]:
    """Name the cache entries that figures come from which were not measured in this run, and their age."""
    by_target: dict[str, list[CachedStage]] = {}
    shown = {"", *(result.target for result in report)}  # not the artifacts that latency is compared with
    for one in report.cached:
        if one.target in shown:
            by_target.setdefault(one.target, []).append(one)
    for target, stages in by_target.items():
        days = {one.created[:10] for one in stages}
        when = f"computed {days.pop()}" if len(days) == 1 else f"computed {min(days)} to {max(days)}"
        entries = ", ".join(f"{_what(one)} {one.key[:_KEY_SHOWN]}" for one in stages)
        yield "from the cache", f"{f'{target}, ' if target else ''}{when}: {entries}"


def _what(one: CachedStage) -> str:
    """Name a cached result beside its target's name."""
    if one.stage is StageKind.CONVERT and one.what.startswith("convert "):
        return f"conversion{one.what.removeprefix(f'convert {one.target}')}"
    if one.stage is StageKind.EVALUATE and one.target:
        return f"accuracy{one.what.removeprefix(one.target)}"
    return one.what


def conversions(report: RunReport) -> Iterator[tuple[str, str]]:
    """Say how long each conversion took, with which effort, and what a search for the budget came to."""
    parts = []
    recalled = {one.target for one in report.cached if one.stage is StageKind.CONVERT}
    recalled -= {timing.target for timing in report.timings if timing.stage is StageKind.CONVERT}
    for result in report:
        if result.convert_s is not None:
            details = [f"effort {result.effort}"] if result.effort else []
            details += ["in an earlier run"] if result.target in recalled else []
            how = f" ({', '.join(details)})" if details else ""
            parts.append(f"{result.target} in {seconds(result.convert_s)}{how}")
    if parts:
        yield "converted", ", ".join(parts)
    for hardware in dict.fromkeys(result.hardware for result in report if result.hardware):
        names = ", ".join(result.target for result in report if result.hardware is hardware)
        yield "laid out", f"for {hardware}: {names}"
    for result in report:
        if result.search is not None:
            yield "budget", f"{result.target}: {search_line(result.search)}"
        if result.training is not None:
            yield "trained", f"{result.target}: {effect_line(result.training)}"


def effect_line(effect: TrainingEffect) -> str:
    """Say what training brought to one artifact, and which one was kept."""
    figures = f"loss {effect.loss_before:.3g} -> {effect.loss_after:.3g} on {effect.images} images"
    asked = ", as asked for" if effect.insisted else ""
    return f"{figures}: the {'trained' if effect.kept else 'post-training'} artifact is kept{asked}"


def search_line(search: SearchResult) -> str:
    """Say which candidate of a search was chosen, how, and what is missing to the limit."""
    chosen = search.trials[search.chosen]
    if search.gap > 0:
        text = f"{search.limit} missed by {search.gap:.3g} {search.limit.unit}"
        text += f" ({search.ended}); kept the best candidate, effort {chosen.effort}"
    else:
        text = f"{search.limit} met with effort {chosen.effort}"
    if chosen.keep_float:
        shown = ", ".join(chosen.keep_float[:_LAYERS_SHOWN])
        more = len(chosen.keep_float) - _LAYERS_SHOWN
        text += f" and {counted(len(chosen.keep_float), 'layer')} in float"
        text += f" ({shown}{f', + {more} more' if more > 0 else ''})"
    if search.chosen_on_evaluation:
        text += (
            f"; chosen of {len(search.trials)} candidates by the evaluation images, which flatters its drop:"
            " confirm it on others"
        )
    return text


def data_line(data: DataInfo) -> str:
    """Say which images, and how they became the model's size."""
    text = f"{data.note or f'{data.images} images of {data.root}'}; resize {data.resize}"
    if data.skipped:
        text += f"; {counted(data.skipped, 'bad image')} skipped, {data.images} used"
    return text


def complete(report: RunReport) -> RunReport:
    """Return a report whose targets say in words what their figures do not: every format shows the same."""
    targets = tuple(
        replace(
            result,
            warnings=(
                *result.warnings,
                *_weights_only_warnings(result),
                *_latency_warnings(result, "this host"),
            ),
            notes=(
                *result.notes,
                *_precision_notes(result),
                *_sample_notes(result),
                *_step_notes(report, result),
            ),
        )
        for result in report
    )
    devices = tuple(
        replace(
            device,
            targets=tuple(
                replace(
                    one,
                    warnings=(*one.warnings, *_latency_warnings(result, "this device")),
                    notes=(*one.notes, *_step_notes(report, result), *_sample_notes(result)),
                )
                for one, result in zip(device.targets, of_device(report, device), strict=True)
            ),
        )
        for device in report.devices
    )
    return replace(report, targets=targets, devices=devices)


def of_device(report: RunReport, device: DeviceResult) -> tuple[TargetResult, ...]:
    """Return what was measured on a device in the form of what was measured here, to be shown alike."""
    here = {result.target: result for result in report}
    return tuple(
        TargetResult(
            target=one.target,
            artifact=here[one.target].artifact,
            accuracy=one.accuracy,
            latency=one.latency,
            size_ratio_to_float=None,
            gates=one.gates,
            failure=one.failure,
            warnings=one.warnings,
            notes=one.notes,
            doubts=one.doubts,
        )
        for one in device.targets
    )


def device_line(device: DeviceResult) -> str:
    """Say what a device is."""
    if device.environment is None:
        return f"on {device.device}: nothing was measured"
    machine = device.environment
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    threads = next((one.latency.threads for one in device.targets if one.latency), machine.cores)
    what = f"{machine.cpu}, {device.hardware}, {counted(threads, 'thread')}"
    return f"on {device.device}: {what}; {packages}"


JUDGED = ("FAILED", *Verdict)  # words that a line begins with, and no colon follows


def of_devices(report: RunReport) -> Iterator[tuple[str, str]]:
    """Say of devices what their tables do not, with the word that it stands under."""
    for device in report.devices:
        if device.failure is not None:
            hint = f" ({device.failure.hint})" if device.failure.hint else ""
            name = "" if device.failure.message.startswith(device.device) else f"{device.device}: "
            yield "FAILED", f"{name}{device.failure.message}{hint}"
        for one in device.targets:
            name = f"{one.target} on {device.device}"
            if one.failure is not None:
                yield "FAILED", f"{name} in stage {one.failure.stage}: {one.failure.message}"
            for gate in one.gates:
                if gate.verdict is not Verdict.PASS:
                    yield gate.verdict.value, f"{name}: {gate.reason}"
            yield from (("doubtful", f"{name}: {doubt.reason}; {doubt.advice}") for doubt in one.doubts)
            yield from (("warning", f"{name}: {text}") for text in one.warnings)
            yield from (("note", f"{name}: {text}") for text in one.notes)
            if one.answers is not None and one.answers.match is not Match.IDENTICAL:
                yield "note", f"{name}: {answers_line(one.answers)}"


def answers_line(found: ComparedAnswers) -> str:
    """Say how a device's answers compare with those of this machine."""
    answers = "every score is identical, bit by bit"
    if found.match is not Match.IDENTICAL:
        what = f"values of {', '.join(found.outputs)}" if found.outputs else "scores"
        answers = (
            f"{found.same_top1} get the same class; {what} differ by at most {found.max_abs_difference:.3g}"
        )
    return f"of {found.images} images, run here too, {answers}"


def notes(report: RunReport) -> Iterator[str]:
    """Yield every note, with its target."""
    yield from (f"{result.target}: {note}" for result in report for note in result.notes)


def _precision_notes(result: TargetResult) -> Iterator[str]:
    """Say where the precision that ran is not the one asked for, and what the artifact says of itself."""
    if result.compilation is not None:
        return
    asked = _precision(result)
    ran = result.latency.precision_ran if result.latency else asked
    is_as_asked = ran == asked or ran in _RUNS_IN.get(asked, ())
    parts = [] if is_as_asked else [f"ran in {ran} here, not in {asked}"]
    for note in result.artifact.notes if result.artifact else ():
        found = note.removeprefix("computes in: ")
        if found == note or not (parts or found == asked or found in _RUNS_IN.get(asked, ())):
            parts.append(note)
    if parts:
        yield "; ".join(parts)


def _step_notes(report: RunReport, result: TargetResult) -> Iterator[str]:
    """Say what steps of 1/256 cost scores that each stand alone, and where the output is no scores."""
    function = ScoreFunction.of(result.artifact.outputs[0].name) if result.artifact else None
    if function is not None:
        yield f"ends in logits: its scores are the {function} of its output, which its reader computes"
    step = result.accuracy.score_step if result.accuracy else None
    if step is not None and report.model.task in (ModelTask.BINARY, ModelTask.MULTILABEL):
        yield (
            f"its scores have steps of {step:.2g}, in which those near 0 and 1 are all alike, which costs AUC"
            " and mAP; integer ends keep more before the sigmoid: --ends logits, and float ends compute it in"
            " float: --io-dtype float32"
        )


def _sample_notes(result: TargetResult) -> Iterator[str]:
    """Say which figures stand on a sample."""
    accuracy = result.accuracy
    if accuracy is not None and accuracy.sampled_of is not None:
        yield (
            f"accuracy on {accuracy.images} of {accuracy.sampled_of} images, of every class its share, since"
            " this runtime computes it on slow reference kernels; the float model on the same;"
            " --slow-eval-limit all (evaluate.slow_limit) takes all of them"
        )


def _weights_only_warnings(result: TargetResult) -> Iterator[str]:
    """Warn of an INT8 artifact that computes in float, and say what it is worth."""
    if result.artifact is None or WEIGHTS_ONLY not in result.artifact.notes:
        return
    size = ""
    if result.size_ratio_to_float is not None:
        size = f"; its file has {ratio(result.size_ratio_to_float)} the size of the float32 weights"
    yield (
        f"computes in float32: on {result.hardware} none of its convolutions is faster in INT8, so that only"
        f" its weights are stored in it{size}"
    )


def _latency_warnings(result: TargetResult, where: str) -> Iterator[str]:
    """Warn of INT8 that is slower than float, and of figures that noise has spoilt."""
    latency = result.latency
    if latency is None:
        return
    if latency.noisy:
        yield noise_line(latency)
    if is_slower(result):
        yield (
            f"slower than float32 of the same runtime on {where}:"
            f" {ratio(latency.ratio_to_float)} its median{_interval(latency)}{_spent(latency)}"
            f"{_to_try(result)}"
        )


def _to_try(result: TargetResult) -> str:
    """Say what helps: a profile leaves in float what is not faster in INT8, for a target that can."""
    if result.hardware is None or _precision(result) != Precision.INT8:
        return "; measure where it is to run (--device), and take a float target where INT8 is no faster"
    return "; what is not faster in INT8 is left in float by a profile: edgefx device profile"


def _spent(latency: Latency) -> str:
    """Say what the time of an INT8 artifact goes to instead, or how to find out."""
    if latency.float_share is None or latency.conversion_share is None:
        return "; edgefx benchmark --profile says what takes the time"
    return (
        f"; its operations spend {percent(latency.float_share, 0)} of their time in float and"
        f" {percent(latency.conversion_share, 0)} in conversions"
    )


def noise_line(latency: Latency) -> str:
    """Say that a noisy latency is not to be relied on, and why."""
    return (
        f"its latency is not to be relied on: the speed changed by {latency.noise:.0%} while it was"
        f" measured (median {ms(latency.p50_ms)} ms, fastest {ms(latency.min_ms)} ms); end other programs"
        " and measure again"
    )


def _interval(latency: Latency) -> str:
    if latency.ratio_ci95 is None:
        return ""
    low, high = latency.ratio_ci95
    return f" (95 % CI {ratio(low)} to {ratio(high)})"


def speed_line(latency: Latency) -> str:
    """Say whether an artifact is faster than its runtime's float32, where its interval tells; else ""."""
    if latency.ratio_to_float is None:
        return ""
    said = f"{ratio(latency.ratio_to_float)} the time of float32{_interval(latency)}"
    if latency.ratio_ci95 is None:
        return f"{said}; one process alone does not tell whether the next would be as fast"
    low, high = latency.ratio_ci95
    if low <= 1.0 <= high or latency.noisy:
        return f"{said}: neither faster nor slower, as far as this measurement tells"
    return f"{said}: {'slower' if low > 1.0 else 'faster'}"


def rounding_notes(report: RunReport) -> Iterator[str]:
    """Say which divergences compare scores that were rounded alike, where a reader sees or limits them."""
    affected = {row.id for row in METRICS.values() if row.on_scores}
    for result in report:
        step = result.accuracy.score_step if result.accuracy else None
        is_shown = result.accuracy is not None and result.accuracy.top1 is None
        if step is not None and (is_shown or any(gate.gate.metric in affected for gate in result.gates)):
            yield f"{result.target}: {rounding(step)}"


def rounding(step: float) -> str:
    """Say that scores were rounded alike before they were compared."""
    return (
        f"its scores are multiples of {_fraction(step)}; mean KL and max |dp| are against the float model's"
        " scores rounded to the same"
    )


def _fraction(step: float) -> str:
    """Write a step as the fraction that it is: 1/256."""
    parts = round(1 / step)
    return f"1/{parts}" if math.isclose(step * parts, 1.0, rel_tol=1e-6) else f"{step:.4g}"


def training_line(training: TrainingResult) -> str:
    """Say what quantization-aware training brought."""
    took = f"{training.images} images, {training.mode}, {training.seconds:.0f} s"
    stopped = f"; stopped early: {training.stopped}" if training.stopped else ""
    return f"{training.summary} ({took}){stopped}"


def checks_line(report: RunReport) -> str:
    """Say which checks of the calibration images found nothing, and which did, whose advice is a warning."""
    passed = [check.name for check in report.checks if check.passed]
    others = [check.name for check in report.checks if not check.passed]
    failed = f"; not passed, see the warnings: {', '.join(others)}" if others else ""
    return f"calibration images passed {len(passed)} of {len(report.checks)}: {', '.join(passed)}{failed}"


def warnings(report: RunReport) -> Iterator[str]:
    """Yield every warning: of the run, and of its targets."""
    yield from report.warnings
    yield from (f"{result.target}: {warning}" for result in report for warning in result.warnings)


def _precision(result: TargetResult) -> str:
    return result.target.partition("-")[2]
