"""The options of `edgefx compile`, on the command line and in Python -> the recipe that they stand for.

`FLAGS` says it all: which option is which key of a recipe. Messages name what a user has said with it, too: a
flag on the command line, an argument in Python, a key of a recipe file. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgefx.errors import EdgefxError, UnknownNameError, UsageError
from edgefx.recipe.conditions import of_device, of_run
from edgefx.units import parse_cluster, parse_drop, parse_ms, parse_prune, parse_share, parse_size

_UNSAID = object()  # what an option gives that leaves its key alone
_TOKEN = re.compile(r"\{(?P<path>[a-z0-9_.]+)(?:(?P<kind>[:=!])(?P<value>[^}]*))?\}")
_FLAG = re.compile(r"(?P<flag>--[a-z][a-z0-9-]*)(?P<metavar> [A-Z]+\b)?")
_COMMAND = "edgefx compile"  # in a message: a whole command to type, whose flags are flags


def _same(value: Any, _name: str) -> Any:
    return value


def _limit(parse: Callable[..., object]) -> Callable[[Any, str], Any]:
    """Check a limit, so that what is wrong with it is said of the option; the recipe keeps its text."""

    def checked(value: Any, name: str) -> str:
        parse(str(value), option=name)
        return str(value)

    return checked


def _few(value: Any, name: str) -> int | str:
    """Return how few values weights have: a number, or what is to be saved as it is written."""
    values, _ = parse_cluster(str(value), option=name)
    return str(value) if values is None else values


def _unless_none(value: Any, _name: str) -> Any:
    names = [value] if isinstance(value, str) else list(value)
    return names or _UNSAID


def _by_device(value: Any, name: str) -> Any:
    """Return the conditions with something before their colons, by that."""
    found: dict[str, list[str]] = {}
    for text in [value] if isinstance(value, str) else list(value):
        scope, _, condition = (part.strip() for part in text.rpartition(":"))
        if scope:
            of_device(scope, condition, option=name)
            found.setdefault(scope, []).append(condition)
    return found or _UNSAID


def _of_this_machine(value: Any, name: str) -> Any:
    """Return the other conditions."""
    texts = [value] if isinstance(value, str) else list(value)
    found = [text for text in texts if not text.rpartition(":")[0].strip()]
    for text in found:
        of_run(text, option=name)
    return found or _UNSAID


def _unless_off(value: bool, _name: str) -> Any:
    return _UNSAID if value else None


@dataclass(frozen=True, kw_only=True)
class Flag:
    """An option, and a key that it stands for; an option that stands for two keys has two rows.

    Attributes:
        flag: On the command line.
        option: In Python, as an argument of ``edgefx.compile``.
        path: The recipe's key; of a section, where the option turns a part of the run off.
        convert: Makes the key's value of the option's, which is not None; told what the option is called.
        needs: The option without which it means nothing.
        unless: The option beside which it does not stand for this key.
        yields: Whether it is without effect where its section is turned off, instead of a contradiction.
    """

    flag: str
    option: str
    path: str
    convert: Callable[[Any, str], Any] = _same
    needs: str = ""
    unless: str = ""
    yields: bool = False


FLAGS = (
    Flag(flag="MODEL", option="model", path="model.source"),
    Flag(flag="--weights", option="weights", path="model.weights"),
    Flag(flag="--classes", option="classes", path="model.classes"),
    Flag(flag="--input-size", option="input_size", path="model.input_size"),
    Flag(flag="--task", option="task", path="model.task"),
    Flag(flag="--head", option="head", path="model.head"),
    Flag(flag="--pixels", option="pixels", path="model.pixels"),
    Flag(flag="--custom-objects", option="custom_objects", path="model.custom_objects"),
    Flag(flag="--labels", option="labels", path="model.labels"),
    Flag(flag="--threshold", option="threshold", path="model.threshold"),
    Flag(flag="--qat", option="qat", path="quantize.method", convert=lambda _value, _name: "qat"),
    Flag(flag="--qat", option="qat", path="quantize.mode"),
    Flag(flag="--train", option="train", path="quantize.train", needs="qat"),
    Flag(flag="--epochs", option="epochs", path="quantize.epochs", needs="qat"),
    Flag(flag="--batch-size", option="batch_size", path="quantize.batch_size", needs="qat"),
    Flag(flag="--learning-rate", option="learning_rate", path="quantize.learning_rate", needs="qat"),
    Flag(flag="--effort", option="effort", path="quantize.effort"),
    Flag(flag="--integer-only", option="integer_only", path="quantize.integer_only"),
    Flag(flag="--cluster", option="cluster", path="quantize.cluster", convert=_few),
    Flag(flag="--prune", option="prune", path="quantize.prune", convert=_limit(parse_prune)),
    # What was trained is judged; nothing is searched for.
    Flag(
        flag="--max-drop",
        option="max_drop",
        path="quantize.budget",
        convert=_limit(parse_drop),
        unless="qat",
    ),
    Flag(flag="--max-drop", option="max_drop", path="gates.max_drop", convert=_limit(parse_drop)),
    Flag(flag="--max-p95-ms", option="max_p95_ms", path="gates.max_p95_ms", convert=_limit(parse_ms)),
    Flag(flag="--max-size", option="max_size", path="gates.max_size", convert=_limit(parse_size)),
    Flag(
        flag="--min-npu-coverage",
        option="min_npu_coverage",
        path="gates.min_npu_coverage",
        convert=_limit(parse_share),
    ),
    Flag(
        flag="--max-estimated-ms",
        option="max_estimated_ms",
        path="gates.max_estimated_ms",
        convert=_limit(parse_ms),
    ),
    Flag(flag="--max-arena", option="max_arena", path="gates.max_arena", convert=_limit(parse_size)),
    Flag(flag="--max-sram", option="max_sram", path="gates.max_sram", convert=_limit(parse_size)),
    Flag(flag="--max-flash", option="max_flash", path="gates.max_flash", convert=_limit(parse_size)),
    Flag(flag="--gate", option="gates", path="gates.devices", convert=_by_device),
    Flag(flag="--gate", option="gates", path="gates.conditions", convert=_of_this_machine),
    Flag(flag="--min-images", option="min_images", path="gates.min_images"),
    Flag(flag="--on-inconclusive", option="on_inconclusive", path="gates.on_inconclusive"),
    Flag(flag="--target", option="targets", path="targets"),
    Flag(flag="--io-dtype", option="io_dtype", path="io_dtype"),
    Flag(flag="--ends", option="ends", path="ends"),
    Flag(flag="--hardware", option="hardware", path="hardware"),
    Flag(flag="--system-config", option="system_config", path="npu.system_config"),
    Flag(flag="--memory-mode", option="memory_mode", path="npu.memory_mode"),
    Flag(flag="--optimise", option="optimise", path="npu.optimise"),
    Flag(flag="--calib", option="calibration", path="calibration.images"),
    Flag(flag="--samples", option="samples", path="calibration.samples"),
    Flag(flag="--no-eval", option="evaluate", path="evaluate", convert=_unless_off),
    Flag(flag="--eval", option="evaluation", path="evaluate.images"),
    Flag(flag="--eval-limit", option="eval_limit", path="evaluate.limit"),
    Flag(flag="--slow-eval-limit", option="slow_eval_limit", path="evaluate.slow_limit"),
    Flag(flag="--resize", option="resize", path="data.resize"),
    Flag(flag="--skip-bad-images", option="skip_bad_images", path="data.skip_bad_images"),
    Flag(flag="--no-benchmark", option="benchmark", path="benchmark", convert=_unless_off),
    Flag(flag="--threads", option="threads", path="benchmark.threads", yields=True),
    Flag(flag="--rounds", option="rounds", path="benchmark.rounds", yields=True),
    Flag(flag="--min-seconds", option="min_seconds", path="benchmark.min_seconds", yields=True),
    Flag(flag="--price-per-hour", option="price_per_hour", path="benchmark.price_per_hour"),
    Flag(flag="--device", option="devices", path="benchmark.devices", convert=_unless_none),
    Flag(flag="--explain", option="explain", path="report.explain"),
    Flag(flag="--bundle", option="bundle", path="bundle"),
    Flag(flag="--seed", option="seed", path="seed"),
    Flag(flag="--output", option="output", path="output"),
)
_PATHS = {row.flag: row.path for row in FLAGS}
_AMBIGUOUS = ("images", "devices")  # keys of several sections


# --------------------------------------------------------------------------------- what things are called


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How a message names keys of a recipe: as whoever reads it has said them.

    Attributes:
        names: What a key is called; one that is missing by its path.
        assigned: How a key is given a value, of ``name`` and ``value``.
        off: How a section was turned off, of ``name``.
        of_a_file: Whether a file says it, which may come from anyone, and not who runs edgefx.
    """

    names: Mapping[str, str]
    assigned: str
    off: str
    of_a_file: bool = False

    def name(self, path: str) -> str:
        """Return what a key is called."""
        return self.names.get(path, path)

    def example(self, path: str, value: str) -> str:
        """Write a key with a value, to be copied."""
        return self.assigned.format(name=self.name(path), value=value)

    def filled(self, text: str) -> str:
        """Replace each key in braces in a message.

        ``{key}`` is its name, ``{key:value}`` what was said of it, ``{key=value}`` how to say it, and
        ``{key!}`` that the section was turned off.
        """

        def written(match: re.Match[str]) -> str:
            path, value = match["path"], match["value"]
            name = self.name(path)
            if match["kind"] == "=":
                return self.example(path, value)
            if match["kind"] == "!":
                return self.off.format(name=name)
            # The name of a flag may say the value already: --qat.
            return name if match["kind"] is None or name.strip("-") == value else f"{name} {value}"

        return _TOKEN.sub(written, text)

    def translated(self, text: str) -> str:
        """Replace the flags in a message of a room that knows of no recipes."""
        if _COMMAND in text:
            return text

        def written(match: re.Match[str]) -> str:
            path = _PATHS.get(match["flag"])
            return self.name(path) if path else match[0]

        return _FLAG.sub(written, text)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Translate the errors of what is done inside.

        Raises:
            EdgefxError: What was raised inside.
        """
        try:
            yield
        except EdgefxError as error:
            error.message, error.hint = self.translated(error.message), self.translated(error.hint)
            raise


class _AsFlags(Wording):
    """Messages are written for the command line: there is nothing to translate."""

    def translated(self, text: str) -> str:
        """Return the message."""
        return text


class _InFile(Wording):
    """Beside the place in the file, the last part of a key is enough, unless several sections have it."""

    def name(self, path: str) -> str:
        """Return what a key is called."""
        last = path.rpartition(".")[2]
        return path if last in _AMBIGUOUS else last

    def example(self, path: str, value: str) -> str:
        """Write a key with a value, to be copied; inside its section where the section is clear."""
        section, _, last = path.rpartition(".")
        return f"{section}: {{{last}: {value}}}" if last in _AMBIGUOUS else f"{last}: {value}"


AS_FLAGS = _AsFlags(names={row.path: row.flag for row in FLAGS}, assigned="{name} {value}", off="{name}")
AS_ARGUMENTS = Wording(
    names={row.path: row.option for row in FLAGS}, assigned="{name}={value!r}", off="{name}=False"
)
BY_PATH = Wording(names={}, assigned="{name}: {value}", off="{name} is null", of_a_file=True)
IN_FILE = _InFile(names={}, assigned="{name}: {value}", off="{name} is null", of_a_file=True)


# ---------------------------------------------------------------------------------------- options -> recipe


def document(options: Mapping[str, Any], wording: Wording = AS_FLAGS) -> dict[str, Any]:
    """Return the recipe that options stand for, as `edgefx.recipe.load.parse` takes it.

    Args:
        options: By their names in Python; None says nothing.
        wording: How messages name them.

    Raises:
        UsageError: An unknown option, options that contradict each other, one that says nothing without
            another one, or a limit without its unit.
    """
    known = list(dict.fromkeys(row.option for row in FLAGS))
    for name in options.keys() - set(known):
        raise UnknownNameError("option", name, known)
    given = {name: value for name, value in options.items() if value is not None}
    result: dict[str, Any] = {"version": 1}
    off: dict[str, Flag] = {}
    for row in FLAGS:
        if row.option not in given or row.unless in given:
            continue
        name = wording.name(row.path)
        if row.needs and row.needs not in given:
            ways = " or ".join(wording.example("quantize.mode", mode) for mode in ("distill", "supervised"))
            raise UsageError(f"{name} is for training", hint=f"say how with {ways}")
        value = row.convert(given[row.option], name)
        if value is _UNSAID:
            continue
        section, _, key = row.path.rpartition(".")
        if section in off:
            if not row.yields:
                raise UsageError(
                    f"{wording.filled(f'{{{section}!}}')} contradicts {name}", hint="leave one of them out"
                )
        elif section:
            result.setdefault(section, {})[key] = value
        else:
            result[key] = value
            if value is None:
                off[key] = row
    return result
