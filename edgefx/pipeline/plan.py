"""A recipe with every name resolved and every folder listed: checks made before the model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgefx import compilers, runtimes, targets
from edgefx.errors import Block, UsageError
from edgefx.hardware import HardwareProfile
from edgefx.metrics import METRICS, Origin
from edgefx.models.zoo import brings_images, recognized
from edgefx.npus import NPU_DEFAULTS, NpuOptions
from edgefx.quantization import UNCOMPRESSED, WeightCompression
from edgefx.recipe import rules
from edgefx.recipe.machines import BenchmarkSection
from edgefx.recipe.options import BY_PATH, Wording
from edgefx.recipe.requests import Request, TargetRequest
from edgefx.recipe.schema import NoneSection, QatSection, Recipe
from edgefx.recipe.values import overridden
from edgefx.results import Check, MaxDrop
from edgefx.storage import hardware as machines
from edgefx.system.host import cores
from edgefx.targets import TargetRow
from edgefx.types import Dataset, Effort, Ending, IoDtype, Precision, Ranges
from edgefx.units import io_dtypes_of
from edgefx.verdicts import Gate
from edgefx.vocabulary import MIN_IMAGES, Hardware, OnInconclusive

_PROFILED = ("float_share", "delegate_coverage")  # metrics that a runtime's profiler tells
DEFAULT_SAMPLES = 100


@dataclass(frozen=True, kw_only=True)
class PlannedTarget:
    """A target with the options that hold for it; what has no effect on it has its default.

    Attributes:
        row: The target.
        io_dtype: Element type of its input.
        output_dtype: Element type that is asked for of its output; None where nothing is said.
        outputs: Those of several outputs whose element type is said by name, each with it.
        ends: What it ends in.
        effort: How much time INT8 accuracy is worth.
        ranges: How its activation ranges are chosen.
        keep_float: Layers to leave in float: names, globs or ``kind:`` patterns; see `quantize.selection`.
        integer_only: Whether its artifact must not compute in float.
        budget: The drop that an INT8 artifact is searched for.
        gates: Its limits.
        min_images: Evaluation images below which limits on accuracy are not judged.
        on_inconclusive: Which limits that cannot be judged fail the run.
        hardware: The class of CPU that the artifact is laid out for.
        profile: What was measured of it, by which operations are placed; None where nothing was.
        npu: What the compiler for an NPU is told.
        eval_limit: Evaluation images above which its accuracy is measured on a sample of so many; None for
            no such limit.
        compression: What is asked of its weights beyond 8 bits, and of its channels.
    """

    row: TargetRow
    io_dtype: IoDtype
    output_dtype: IoDtype | None = None
    outputs: tuple[tuple[str, IoDtype], ...] = ()
    ends: Ending = Ending.SCORES
    effort: Effort = Effort.BALANCED
    ranges: Ranges = Ranges.AUTO
    keep_float: tuple[str, ...] = ()
    integer_only: bool = False
    budget: MaxDrop | None = None
    gates: tuple[Gate, ...] = ()
    min_images: int = MIN_IMAGES
    on_inconclusive: OnInconclusive = OnInconclusive.FAIL_IF_DOUBTFUL
    hardware: Hardware = Hardware.OTHER
    profile: HardwareProfile | None = None
    eval_limit: int | None = None
    npu: NpuOptions = NPU_DEFAULTS
    compression: WeightCompression = UNCOMPRESSED

    @property
    def name(self) -> str:
        """`<runtime>-<precision>`, or an NPU."""
        return self.row.name

    @property
    def applied(self) -> WeightCompression:
        """What of its compression such a target has: of float weights, no more than fewer channels."""
        return self.compression if self.row.compresses_weights else self.compression.of_graph

    @property
    def has_float_ends(self) -> bool:
        """Whether it computes on integers only, but between conversions from and to float."""
        dtypes = (self.io_dtype, self.last, *dict(self.outputs).values())
        return self.integer_only and IoDtype.FLOAT32 in dtypes

    @property
    def last(self) -> IoDtype:
        """Element type of its output, unless it is chosen by what the model answers (`ends.of_outputs`)."""
        return self.output_dtype or self.row.io_dtypes[0]

    @property
    def io_dtypes(self) -> str:
        """The types of the ends, as `units.parse_io_dtypes` reads them."""
        if self.last is self.io_dtype and not self.outputs:
            return self.io_dtype
        ends = (("input", self.io_dtype), ("output", self.last), *self.outputs)
        return ",".join(f"{end}={dtype}" for end, dtype in ends)

    @property
    def limits(self) -> tuple[str, ...]:
        """The recipe's keys of its budget and its gates."""
        budget = ("quantize.budget",) if self.budget is not None else ()
        return (*budget, *(f"gates.{METRICS[gate.metric].gate}" for gate in self.gates))

    @property
    def needs_labels(self) -> tuple[str, ...]:
        """Those of `limits` for which it must be known what is right."""
        labelled = {f"gates.{row.gate}" for row in METRICS.values() if row.needs_labels} | {"quantize.budget"}
        return tuple(key for key in self.limits if key in labelled)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe with every name resolved and every folder listed.

    Attributes:
        recipe: What was asked for.
        targets: In table order, each with its options.
        calibration: Images that set ranges; None when no target needs them.
        evaluation: Images that accuracy is measured on; None when accuracy is not measured.
        training: Images of quantization-aware training; None without it.
        calibration_note: How the calibration images were chosen.
        evaluation_note: How the evaluation images were chosen.
        checks: The checks of the calibration images that need only their listing.
        evaluates_the_rest: Whether the evaluation images are what calibration leaves of its folder.
        listed: The folder that the evaluation images come from, with the images that calibrate or are left
            out: a label that does not fit the model says that the folder is not the model's.
        wording: How messages name what was asked for.
        hardware: What the artifacts are laid out for; None before it is read.
        allow_unsafe: Whether a model file is loaded that would be refused as unsafe. No recipe can say so:
            recipes come from the same places as models.
    """

    recipe: Recipe
    targets: tuple[PlannedTarget, ...]
    calibration: Dataset | None
    evaluation: Dataset | None
    calibration_note: str = ""
    evaluation_note: str = ""
    checks: tuple[Check, ...] = ()
    training: Dataset | None = None
    evaluates_the_rest: bool = False
    listed: Dataset | None = None
    wording: Wording = BY_PATH
    allow_unsafe: bool = False
    hardware: machines.AskedHardware | None = None

    @property
    def device_gates(self) -> tuple[Gate, ...]:
        """The limits on what devices measure."""
        return tuple(gate for gates in self.recipe.gates.device_gates().values() for gate in gates)

    @property
    def benchmark(self) -> BenchmarkSection | None:
        """How latency is measured: with the profilers, too, where a gate limits what they tell."""
        section = self.recipe.benchmark
        gates = (*self.device_gates, *(gate for target in self.targets for gate in target.gates))
        if section is None or not any(gate.metric in _PROFILED for gate in gates):
            return section
        return section.model_copy(update={"profile": True})

    @property
    def rows(self) -> tuple[TargetRow, ...]:
        """The targets' rows."""
        return tuple(target.row for target in self.targets)


def plan(recipe: Recipe, *, wording: Wording = BY_PATH, allow_unsafe: bool = False) -> Plan:
    """Resolve targets and data, and check what can be checked without loading the model.

    Args:
        recipe: What is asked for.
        wording: How messages name it.
        allow_unsafe: See `Plan`.

    Raises:
        UnknownNameError: There is no such model or target.
        NoModelError: The path of the model holds none.
        UsageError: What does not go together: see `edgefx.recipe.rules`; or a file asks for code to be run.
        MissingDependencyError: A package that a target needs is absent.
        DataError: A folder is missing, empty or wrongly labelled.
    """
    # Written out, so that a lock file compiles for the same CPUs wherever it is run again.
    asked = machines.resolve(recipe.hardware)
    recipe = recipe.model_copy(update={"hardware": asked.name})
    planned = resolve(recipe, asked)
    recognized(recipe.model.source)  # who gives a file that is no model is told that first
    check(recipe, planned, wording)
    if recipe.model.custom_objects is not None and wording.of_a_file and not allow_unsafe:
        raise UsageError(
            f"{wording.name('model.custom_objects')}: {recipe.model.custom_objects} would be run as Python,"
            " and a file cannot ask for that",
            hint="if you trust whoever made it: --allow-unsafe; or give edgefx compile --custom-objects",
        )
    for target in planned:
        runtimes.load(target.row).check()
        if target.row.is_compiled:
            compilers.load(target.row).check()
            compilers.load(target.row).configure(target.name, target.npu)
    planned = tuple(map(_with_own_gates, planned))
    return _with_data(
        Plan(
            recipe=recipe,
            targets=planned,
            calibration=None,
            evaluation=None,
            wording=wording,
            allow_unsafe=allow_unsafe,
            hardware=asked,
        )
    )


def _with_own_gates(target: PlannedTarget) -> PlannedTarget:
    """Leave out limits on what is not known of a target's kind; `check` has seen to it that one has it."""
    gates = (gate for gate in target.gates if METRICS[gate.metric].origin.is_known_of(target.row.kind))
    return replace(target, gates=tuple(gates))


def images_for(target: PlannedTarget, plan: Plan) -> int:
    """Return how many images a target's accuracy is measured on; 0 where it is not measured."""
    images = len(plan.evaluation.items) if plan.evaluation is not None else 0
    return images if target.eval_limit is None else min(images, target.eval_limit)


def threads_of(plan: Plan) -> int:
    """Return the intra-op threads for evaluation and latency: as asked, or all cores."""
    asked = plan.recipe.benchmark.threads if plan.recipe.benchmark else None
    return asked or cores()


def resolve(recipe: Recipe, asked: machines.AskedHardware | None = None) -> tuple[PlannedTarget, ...]:
    """Return the recipe's targets in table order, each with the options that hold for it.

    The hardware that it names is read, unless that was `asked` for before.

    Raises:
        UsageError: No target, or an unknown one.
    """
    rows = targets.select(section.target for section in recipe.targets)
    if not rows:
        raise UsageError("no target given", hint="name one with --target, e.g. --target tflite-int8")
    hardware = asked or machines.resolve(recipe.hardware)
    return tuple(_resolved(recipe, row, hardware) for row in rows)


def _resolved(recipe: Recipe, row: TargetRow, asked: machines.AskedHardware) -> PlannedTarget:
    """Put together what holds for one target: of what is said twice, the later counts."""
    quantize = recipe.quantize
    result = PlannedTarget(row=row, io_dtype=row.io_dtypes[0], ends=recipe.ends, npu=recipe.npu.options)
    gates, io_dtypes = recipe.gates, recipe.io_dtype
    if not isinstance(quantize, NoneSection):
        result = replace(
            result,
            effort=quantize.effort,
            ranges=quantize.ranges,
            keep_float=quantize.keep_float,
            integer_only=quantize.integer_only,
            budget=quantize.budget,
            compression=quantize.compression,
        )
    for section in recipe.targets:
        if row not in targets.select((section.target,)):
            continue
        if section.gates is not None:
            gates = gates.overridden_by(section.gates)
        io_dtypes = section.io_dtype or io_dtypes
        result = replace(
            result,
            ends=section.ends or result.ends,
            effort=section.effort or result.effort,
            ranges=section.ranges or result.ranges,
            keep_float=result.keep_float if section.keep_float is None else section.keep_float,
            integer_only=result.integer_only if section.integer_only is None else section.integer_only,
            budget=section.budget if "budget" in section.model_fields_set else result.budget,
            npu=result.npu.overridden_by(section.npu.options) if section.npu else result.npu,
            compression=overridden(result.compression, section),
        )
    # Nothing changes when an option is changed that a target does not have.
    if row.precision is not Precision.INT8:
        result = replace(result, effort=Effort.BALANCED, budget=None)
    if not row.needs_calibration:
        result = replace(result, ranges=Ranges.AUTO, keep_float=())
    if row.is_compiled:  # what computes in float would be left to the CPU
        result = replace(result, integer_only=True)
    if row.follows_hardware:
        result = replace(result, hardware=asked.hardware, profile=asked.profile if row.is_placed else None)
    limits = (*gates.gates(), *recipe.gates.gates_of(row.name))
    if row.slow_kernels and recipe.evaluate is not None:
        # One image of 100 is a percentage point: what is judged is measured on all images.
        is_judged = any(METRICS[gate.metric].origin is Origin.ACCURACY for gate in limits)
        most = recipe.evaluate.slow_limit or ("all" if is_judged else MIN_IMAGES)
        result = replace(result, eval_limit=None if most == "all" else most)
    first, last, named = io_dtypes_of(io_dtypes)
    return replace(
        result,
        io_dtype=first or row.io_dtypes[0],
        output_dtype=last,
        outputs=named,
        gates=limits,
        min_images=gates.min_images,
        on_inconclusive=gates.on_inconclusive,
    )


def check(recipe: Recipe, planned: Sequence[PlannedTarget], wording: Wording) -> None:
    """Check what goes with what, by the rules that hold for recipe files.

    Raises:
        UsageError: Names everything that does not go together.
    """
    found = [
        (wording.filled(problem.message), wording.filled(problem.hint))
        for _, problem in rules.merged(rules.problems(_request(recipe, planned)), lambda problem: problem.key)
    ]
    found = list(dict.fromkeys(found))  # one option may stand for two keys
    if len(found) == 1:
        raise UsageError(found[0][0], hint=found[0][1])
    if found:
        blocks = [Block.of([message, f"hint: {hint}"]) for message, hint in found]
        raise UsageError(f"{len(found)} things do not go together", details=blocks)


def _request(recipe: Recipe, planned: Sequence[PlannedTarget]) -> Request:
    """Return what rules look at."""
    quantize, model = recipe.quantize, recipe.model
    training = quantize if isinstance(quantize, QatSection) else None
    is_file = Path(model.source).exists()  # what is neither file nor name is refused when it is loaded
    for_zoo = {"model.weights": model.weights, "model.classes": model.classes} if is_file else {}
    return Request(
        model=model.source,
        targets=tuple(
            TargetRequest(
                row=target.row,
                io_dtype=target.io_dtypes,
                ends=target.ends,
                ranges=target.ranges,
                keeps_float=bool(target.keep_float),
                integer_only=target.integer_only,
                compression=_keys(target.compression),
                channels=target.compression.of_graph,
                limits=target.limits,
                npu_options=tuple(f"npu.{name}" for name in target.npu.said),
            )
            for target in planned
        ),
        method=quantize.method,
        mode=training.mode if training else "distill",
        trains=training is not None and training.train is not None,
        smooths=training is not None and training.label_smoothing > 0,
        calibrates=recipe.calibration is not None and recipe.calibration.images is not None,
        samples=recipe.calibration is not None and recipe.calibration.samples is not None,
        evaluates=recipe.evaluate is not None,
        evaluation=recipe.evaluate is not None and recipe.evaluate.images is not None,
        benchmarks=recipe.benchmark is not None,
        prices=recipe.benchmark is not None and recipe.benchmark.price_per_hour is not None,
        explains=recipe.report.explain > 0,
        for_zoo=tuple(key for key, value in for_zoo.items() if value is not None),
        devices=recipe.benchmark.devices if recipe.benchmark else (),
        device_gates=recipe.gates.device_gates(),
    )


def _keys(compression: WeightCompression) -> tuple[str, ...]:
    """Return the recipe's keys that ask for a compression."""
    asked = (compression.clusters, compression.prunes)
    return tuple(key for key, holds in zip(rules.COMPRESSION, asked, strict=True) if holds)


def _with_data(plan: Plan) -> Plan:
    """List the image folders and divide them into calibration and evaluation images."""
    from edgefx.data import calibration, labels

    recipe = plan.recipe
    source, held_out = _folders(recipe)
    needing = any(one.row.needs_calibration or one.compression.narrows for one in plan.targets)
    chosen: Dataset | None = None
    if source is not None:
        listed = labels.scan(source, recipe.model.only_task)
        samples = recipe.calibration.samples if recipe.calibration else None
        count = _sample_count(listed, samples, shared=held_out is None and recipe.evaluate is not None)
        chosen, rest = calibration.split(listed, samples=count, seed=recipe.seed)
        twins = [twin for _, twin in calibration.content_overlap(chosen, rest)]
        rest = calibration.without(rest, twins)
        note = f"the {len(rest.items)} images of {_shown(source)} that calibration left"
        note += f", less {len(twins)} copies of calibration images" if twins else ""
        plan = replace(plan, evaluation=rest, evaluation_note=note, evaluates_the_rest=True, listed=listed)
        if needing:
            plan = replace(
                plan,
                calibration=chosen,
                calibration_note=f"{count} of {len(listed.items)} images of {_shown(source)}, "
                f"seed {recipe.seed}",
                checks=calibration.listing_checks(chosen),
            )
    if isinstance(recipe.quantize, QatSection) and recipe.quantize.train is not None:
        plan = replace(plan, training=labels.scan(recipe.quantize.train, recipe.model.only_task))
    if held_out is not None:
        listed = labels.scan(held_out, recipe.model.only_task)
        plan = replace(
            plan,
            evaluation=listed,
            evaluation_note=f"all {len(listed.items)} images of {_shown(held_out)}",
            evaluates_the_rest=False,
            listed=listed,
        )
    for dataset in (chosen, plan.training, plan.evaluation):
        if dataset is not None:
            _check_output(recipe.output, dataset)
    return _with_evaluation(plan)


def _check_output(output: Path, dataset: Dataset) -> None:
    """Refuse an output folder that the next run would take for one of the classes.

    Raises:
        UsageError: It lies inside a folder whose sub-folders are classes.
    """
    root = dataset.root.resolve()
    if dataset.kind == "folders" and root in output.resolve().parents:
        raise UsageError(
            f"--output {output} lies inside the image folder {dataset.root}, whose sub-folders are classes",
            hint="choose a folder elsewhere: the next run would count this one as a class",
        )


def _folders(recipe: Recipe) -> tuple[Path | None, Path | None]:
    """Return the calibration and evaluation folders; a model may bring its own."""
    source = recipe.calibration.images if recipe.calibration else None
    held_out = recipe.evaluate.images if recipe.evaluate else None
    if source is None and brings_images(recipe.model.source):
        from edgefx.data import digits

        return digits.calibration_folder(), held_out or digits.evaluation_folder()
    if source is None and isinstance(recipe.quantize, QatSection):
        source = recipe.quantize.train
    return source, held_out


def _with_evaluation(plan: Plan) -> Plan:
    """Limit the evaluation images as asked, and refuse those that would flatter or cannot judge a gate."""
    from edgefx.data import calibration

    recipe, evaluation = plan.recipe, plan.evaluation
    if recipe.evaluate is None or evaluation is None:
        evaluation = None
    else:
        if plan.calibration is not None:
            calibration.require_disjoint(plan.calibration, evaluation)
        if plan.training is not None:
            calibration.require_disjoint(plan.training, evaluation, purpose="training")
    limits = dict.fromkeys(key for target in plan.targets for key in target.needs_labels)
    if any(METRICS[gate.metric].needs_labels for gate in plan.device_gates):
        limits["gates.devices"] = None
    if limits and evaluation is not None and not evaluation.known:
        names = dict.fromkeys(plan.wording.name(key) for key in limits)
        images = plan.wording.example("evaluate.images", "photos/test")
        raise UsageError(
            f"{', '.join(names)} {'need' if len(names) > 1 else 'needs'} labelled evaluation images:"
            f" {evaluation.root} has no labels",
            hint=f"give a folder with a sub-folder per class, or with labels.csv: {images}",
        )
    limit = recipe.evaluate.limit if recipe.evaluate else None
    if evaluation is not None and limit is not None and limit < len(evaluation.items):
        evaluation, _ = calibration.split(evaluation, samples=limit, seed=recipe.seed)
        note = f"{limit} sampled of {plan.evaluation_note}, seed {recipe.seed}"
        plan = replace(plan, evaluation_note=note)
    return replace(plan, evaluation=evaluation)


def _shown(folder: Path) -> Path:
    """Return the folder as a reader would name it: relative where it lies below the working folder."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _sample_count(listed: Dataset, samples: int | None, *, shared: bool) -> int:
    """How many images to calibrate on; with one folder for both purposes, some must be left to measure on."""
    total = len(listed.items)
    if samples is None:
        return min(DEFAULT_SAMPLES, max(1, total // 2) if shared else total)
    if samples > total or (shared and samples == total):
        raise UsageError(
            f"--samples {samples}: {listed.root} holds {total} images"
            + (", and some must be left to measure accuracy on" if shared else ""),
            hint="ask for fewer, or give evaluation images of their own with --eval DIR",
        )
    return samples
