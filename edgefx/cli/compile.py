"""`edgefx compile`: flags -> recipe -> plan -> run -> report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefx.cli import completion
from edgefx.cli.context import App, pass_app
from edgefx.cli.options import (
    ImageCount,
    IoDtypes,
    PositiveNumber,
    allow_unsafe_option,
    calib_option,
    classes_range,
    devices_option,
    dry_run_option,
    effort_option,
    hardware_option,
    hint_options,
    input_size_option,
    json_option,
    log_to_option,
    min_images_option,
    min_seconds_option,
    no_cache_option,
    npu_options,
    on_inconclusive_option,
    price_option,
    report_option,
    resize_option,
    resume_option,
    rounds_option,
    samples_option,
    scaling_options,
    seed_option,
    skip_bad_option,
    threads_option,
)
from edgefx.cli.pages import explain_option
from edgefx.cli.sections import SectionedCommand
from edgefx.vocabulary import MIN_IMAGES

if TYPE_CHECKING:
    from edgefx.recipe.schema import Recipe

_SECTIONS = {
    "What to make": ("targets", "output", "effort", "hardware", "io_dtype", "ends", "integer_only"),
    "Images": (
        "calib", "samples", "evaluation", "eval_limit", "slow_eval_limit", "no_eval", "resize",
        "skip_bad_images",
    ),
    "The model, where it does not say so itself": (
        "weights", "classes", "input_size", "phi", "width", "depth", "resolution", "task", "head", "pixels",
        "threshold", "labels", "custom_objects", "allow_unsafe",
    ),
    "Training before quantization": ("qat", "train", "epochs", "batch_size", "learning_rate", "resume"),
    "Microcontrollers and NPUs": ("cluster", "prune", "system_config", "memory_mode", "optimise"),
    "Latency, and devices": (
        "no_benchmark", "threads", "rounds", "min_seconds", "price_per_hour", "devices",
    ),
    "Gates": (
        "max_drop", "max_p95_ms", "max_size", "min_npu_coverage", "max_estimated_ms", "max_arena", "max_sram",
        "max_flash", "gates", "min_images", "on_inconclusive",
    ),
    "Reports": ("report_files", "explain", "bundle", "log_to", "as_json"),
}  # fmt: skip


@click.command(
    cls=SectionedCommand,
    sections=_SECTIONS,
    epilog="""\b
Examples:
  edgefx compile digits --target tflite-int8
  edgefx compile model.keras --target tflite-int8 --calib photos/ --max-drop 0.5pp --report report.md
  edgefx compile model.keras --target tflite-int8 --calib photos/ --effort high --integer-only
  edgefx compile model.keras --target tflite-int8 --qat distill --train photos/ --eval test/
  edgefx compile model.keras --target 'openvino-*,onnx-int8' --calib photos/ --eval test/ -o build/
  edgefx compile model.keras --target 'ethos-u55-*' --calib photos/ --eval test/ --max-sram 2MB
  edgefx compile b0 --weights imagenet --target tflite-float16 --no-benchmark
  edgefx compile model.keras --target 'tflite-*' --calib photos/ --device ssh://pi@raspberrypi.local
""",
)
@click.argument("model", shell_complete=completion.models)
@click.option(
    "-t",
    "--target",
    "targets",
    shell_complete=completion.targets,
    multiple=True,
    required=True,
    metavar="NAME",
    help="What to make: a name, a comma list or a glob (see: edgefx targets). May be repeated.",
)
@calib_option
@samples_option
@click.option(
    "--eval",
    "evaluation",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of images to measure accuracy on.  [default: the images of --calib that did not calibrate]",
)
@click.option(
    "--eval-limit", type=click.IntRange(min=1), metavar="N", help="Measure accuracy on a sample of N images."
)
@click.option(
    "--slow-eval-limit",
    type=ImageCount(),
    metavar="N|all",
    help="The same for tflite-int16x8, which LiteRT computes on slow reference kernels; all measures it on "
    f"all images.  [default: all where a gate limits its accuracy, else {MIN_IMAGES}]",
)
@click.option("--no-eval", is_flag=True, help="Do not measure accuracy.")
@click.option("--no-benchmark", is_flag=True, help="Do not measure latency and memory.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("edgefx-out"),
    show_default=True,
    metavar="DIR",
    help="Folder for the artifacts, report.json and edgefx.lock.json.",
)
@click.option(
    "--weights",
    shell_complete=completion.weights,
    metavar="imagenet|random|PATH",
    help="Weights of a model that is given by name.  [default: imagenet; digits has its own]",
)
@click.option(
    "--classes", type=classes_range, metavar="N", help="Number of classes of a model that is given by name."
)
@input_size_option
@scaling_options("model")
@hint_options
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Text file with the names of the classes, one a line, by index.  [default: the model's own, or the "
    "names of the images' folders]",
)
@click.option(
    "--io-dtype",
    type=IoDtypes(),
    metavar="TYPE|input=TYPE,output=TYPE",
    help="Type of the input and output tensors of INT8 artifacts: uint8, int8 or float32, for both or for "
    "each.  [default: uint8 for TFLite, else float32]",
)
@click.option(
    "--ends",
    type=click.Choice(["scores", "logits"]),
    help="What the artifacts end in. logits: whoever reads them computes the sigmoid or softmax, and integer "
    "outputs keep the differences between sure answers.  [default: scores]",
)
@effort_option
@click.option(
    "--qat",
    type=click.Choice(["distill", "supervised"]),
    help="Train the INT8 targets to be accurate after quantization. distill learns from the float model's "
    "own scores and needs no labels; supervised learns from labels.",
)
@click.option(
    "--train",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of training images for --qat; without --calib they are the calibration images too.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Largest number of passes that --qat makes over the training images.  [default: 10]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of images in each training step of --qat.  [default: 16]",
)
@click.option(
    "--learning-rate",
    type=PositiveNumber(),
    metavar="X",
    help="Learning rate of --qat: the largest change of a weight in one step, as a fraction of its INT8 "
    "step.  [default: 0.002]",
)
@resume_option
@click.option(
    "--cluster",
    metavar="K|35%",
    help="Give the weights of each layer, or of each of its channels, at most K distinct values, such as "
    "16, so that tflite-int8 and what is compiled of it take less flash; or as few as each layer bears so "
    "that lookup tables of TFLM save a share of the file. --qat trains the values. The report says what that "
    "brings and costs.",
)
@click.option(
    "--prune",
    metavar="30%|2:4|channels:25%",
    help="Make a share of the weights zero, or two of any four, for the same targets; --qat trains the "
    "others. Or, for any target, remove channels of MBConv blocks that hold a share of all weights, before "
    "anything is quantized.",
)
@click.option(
    "--integer-only",
    is_flag=True,
    help="Allow no float operation in the artifact, as NPUs and microcontrollers need it. Only for "
    "tflite-int8, and for tflite-int16x8 between its float ends.",
)
@hardware_option
@npu_options
@resize_option
@skip_bad_option
@threads_option
@rounds_option
@min_seconds_option
@price_option
@devices_option
@click.option(
    "--max-drop",
    metavar="1pp|1%",
    help="Gate: the most top-1 accuracy that may be lost against the float Keras model, in percentage "
    "points or in percent of the model's top-1. edgefx works for it: INT8 targets get more effort, then "
    "their most sensitive layers stay in float.",
)
@click.option(
    "--max-p95-ms",
    metavar="20",
    help="Gate: the highest 95th percentile of the latency on this machine, in milliseconds.",
)
@click.option("--max-size", metavar="6MB", help="Gate: the largest size of the artifact's files together.")
@click.option(
    "--min-npu-coverage",
    metavar="100%",
    help="Gate of NPUs: the smallest share of the operations that the NPU must compute.",
)
@click.option(
    "--max-estimated-ms",
    metavar="20",
    help="Gate of NPUs: the longest inference that the compiler may estimate, in milliseconds.",
)
@click.option(
    "--max-arena",
    metavar="100kB",
    help="Gate of tflm-int8: the largest tensor arena to reserve on the microcontroller.",
)
@click.option("--max-sram", metavar="2MB", help="Gate of NPUs: the most SRAM that the compiler may estimate.")
@click.option(
    "--max-flash", metavar="4MB", help="Gate of NPUs: the most flash that the compiler may estimate."
)
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="[[TARGETS@]DEVICE:] [OUTPUT.]METRIC<=LIMIT",
    help="A limit on a figure, as in edgefx gate: 'quality.mae <= 2' of one of several outputs, or "
    "'pi5: p95_ms <= 20' on what a device of --device measures. May be repeated.",
)
@min_images_option
@on_inconclusive_option
@seed_option
@explain_option("Show in the page")
@click.option(
    "--bundle",
    is_flag=True,
    help="Put what was made into MODEL.edgefx.zip in the output folder, as edgefx bundle does.",
)
@report_option
@log_to_option
@click.option(
    "--dump-recipe",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Write these options as a recipe to FILE (or stdout), then stop.",
)
@allow_unsafe_option
@dry_run_option
@no_cache_option
@json_option
@pass_app
def command(
    app: App,
    *,
    model: str,
    as_json: bool,
    report_files: tuple[Path, ...],
    log_to: str | None,
    dump_recipe: str | None,
    dry_run: bool,
    resume: bool,
    **flags: Any,
) -> int:
    """Compile MODEL for edge runtimes, and report what it lost and how fast it runs.

    MODEL is a name (see: edgefx models) or the path of a .keras file, an .h5 file or a SavedModel folder. The
    exit code is 0 on success, 1 when a gate failed or cannot be judged, and 4 when a target failed.
    """
    from edgefx.cli.run import execute, show_plans
    from edgefx.recipe.load import NamedRecipe, parse
    from edgefx.recipe.options import AS_FLAGS, document

    recipe = parse(document({"model": model, **_options(**flags)}), where="command line", wording=AS_FLAGS)
    if dump_recipe:
        return _dump(app, recipe, dump_recipe, report_files, as_json=as_json)
    runs = [NamedRecipe(name="", recipe=recipe, wording=AS_FLAGS)]
    if dry_run:
        return show_plans(app, runs, as_json=as_json, report_files=report_files)
    return execute(app, runs, as_json=as_json, report_files=report_files, log_to=log_to, resume=resume)


def _options(*, calib: Path | None, no_eval: bool, no_benchmark: bool, **same: Any) -> dict[str, Any]:
    """Return the options by their names in Python."""
    return {"calibration": calib, "evaluate": not no_eval, "benchmark": not no_benchmark, **same}


def _dump(app: App, recipe: Recipe, file: str, report_files: tuple[Path, ...], *, as_json: bool) -> int:
    """Write `recipe` as YAML; with --json also on stdout as a JSON document, which is a recipe as well.

    Raises:
        UsageError: What is asked for does not go together; the file exists already, or cannot be written.
    """
    from edgefx.cli.recipe import new_file
    from edgefx.pipeline import plan
    from edgefx.recipe.dump import to_document, to_yaml
    from edgefx.recipe.options import AS_FLAGS

    plan.check(recipe, plan.resolve(recipe), AS_FLAGS)
    if report_files:
        recipe = recipe.model_copy(
            update={"report": recipe.report.model_copy(update={"files": report_files})}
        )
    folder = None if file == "-" else Path(file).parent
    text = f"# edgefx run {file if file != '-' else 'RECIPE'}\n{to_yaml(recipe, folder=folder)}"
    if file != "-":
        new_file(Path(file), text, force=False)
    if as_json:
        app.write_json(to_document(recipe))
    elif file == "-":
        app.write(text)
    if file == "-":
        return 0
    app.note(f"wrote {file}; run it with: edgefx run {file}")
    return 0
