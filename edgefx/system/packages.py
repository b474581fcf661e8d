"""Which of the packages that edgefx uses are installed, without importing them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata, util

from edgefx.errors import MissingDependencyError
from edgefx.views import PackageState

# Distribution -> import name, where they differ.
_MODULES = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "ai-edge-litert": "ai_edge_litert",
    "ai-edge-quantizer": "ai_edge_quantizer",
    "tf-keras": "tf_keras",
    "keras-hub": "keras_hub",
    "tensorflow-model-optimization": "tensorflow_model_optimization",
    "ethos-u-vela": "ethosu",
    "tflite-micro": "tflite_micro",
    "mlflow-skinny": "mlflow",
    "opentelemetry-sdk": "opentelemetry.sdk",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
}
_CLAUSE = re.compile(r"(>=|<=|==|!=|~=|<|>)\s*([0-9][0-9a-zA-Z.*]*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")


def module_of(distribution: str) -> str:
    """Return the name to import for a name to install; an import name is returned as it is."""
    return _MODULES.get(distribution, distribution)


def install_of(*modules: str) -> str:
    """Return what to install to be able to import all of `modules`, as ``pip install`` takes it.

    For what belongs to an extra of edgefx this is the smallest extra with all of them ("edgefx[tflite]"); for
    everything else, the first one's requirement ("pyyaml>=6").
    """
    wanted = {distribution_of(module) for module in modules}
    known = extras()
    holding = [name for name, members in known.items() if wanted.intersection(members)]
    if not holding:
        return requirement_of(modules[0])
    best = min(holding, key=lambda name: (len(wanted.difference(known[name])), len(known[name])))
    return f"edgefx[{best}]"


def requirement_of(module: str) -> str:
    """Return the distribution of one module, with the versions that edgefx needs."""
    distribution = distribution_of(module)
    return requirements().get(distribution, distribution)


def distribution_of(module: str) -> str:
    """Return the name to install for a name to import."""
    return next((name for name, known in _MODULES.items() if known == module), module)


def is_installed(module: str) -> bool:
    """Whether a package can be found; of one in a package, the outer ones are imported."""
    try:
        return util.find_spec(module) is not None
    except (ImportError, ValueError):  # a module that replaced itself in sys.modules has no spec
        return False


def require(*modules: str, purpose: str) -> None:
    """Make sure that packages can be imported.

    Args:
        modules: Import names.
        purpose: What needs them, for the message ("the onnx targets").

    Raises:
        MissingDependencyError: Names the first one that is absent, and the command that installs it.
    """
    for module in modules:
        if not is_installed(module):
            raise missing(module, *modules, purpose=purpose)


def missing(
    module: str, *together: str, purpose: str, cause: BaseException | None = None
) -> MissingDependencyError:
    """Return the error that says how to install a package.

    Args:
        module: Import name of the package that cannot be imported.
        together: What else the same purpose needs, so that one command installs all of it.
        purpose: What needs it.
        cause: What its import raised; see `MissingDependencyError`.
    """
    needed = (module, *(name for name in together if name != module))
    lighter = " ".join(f"'{requirement_of(name)}'" for name in needed) if _only_runs(needed) else ""
    return MissingDependencyError(
        module,
        needed_for=purpose,
        requirement=requirement_of(module),
        install=install_of(*needed),
        lighter=lighter,
        cause=cause,
    )


def _only_runs(modules: Iterable[str]) -> bool:
    """Whether packages are what artifacts of some runtime are run with."""
    from edgefx.targets import TARGETS

    return any(set(modules) <= set(row.engine_packages) for row in TARGETS.values())


def states() -> tuple[PackageState, ...]:
    """Look at every package that edgefx's metadata names, those of extras too."""
    return tuple(_state(name, requirement) for name, requirement in requirements().items())


def _state(distribution: str, requirement: str) -> PackageState:
    module = module_of(distribution)
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        version = None
    problem = ""
    if version is None or not is_installed(module):
        problem = "not installed"
    elif not satisfies(version, requirement):
        problem = f"version {version} is installed, {requirement} is needed"
    return PackageState(
        distribution=distribution,
        module=module,
        requirement=requirement,
        version=version,
        needed_for=_needed_for(distribution),
        problem=problem,
        optional=any(distribution in members for members in extras().values()),
    )


def _needed_for(distribution: str) -> tuple[str, ...]:
    """Return the extras that a package belongs to; "all" is none of its own."""
    members = {extra: names for extra, names in extras().items() if extra != "all"}
    found = tuple(extra for extra, names in members.items() if distribution in names)
    if not found:
        return ("everything",)
    return found if len(found) < len(members) else ("every extra",)


def requirements() -> dict[str, str]:
    """Return distribution -> requirement as edgefx's metadata states them ("click" -> "click>=8.2").

    Those of extras are among them, after those that edgefx cannot be without.
    """
    return {name: requirement for name, requirement, _ in _stated()}


def extras() -> dict[str, tuple[str, ...]]:
    """Return extra -> the distributions that it installs beside what edgefx cannot be without."""
    found: dict[str, list[str]] = {}
    for name, _, extra in _stated():
        if extra:
            found.setdefault(extra, []).append(name)
    return {extra: tuple(names) for extra, names in found.items()}


def _stated() -> list[tuple[str, str, str]]:
    """Return (distribution, requirement, extra) of edgefx's metadata; the extra is "" for the base.

    An extra made of others lists their members, too: the build backend writes it so.
    """
    try:
        stated = metadata.requires("edgefx") or []
    except metadata.PackageNotFoundError:  # a source tree that was never installed: `doctor` says so
        return []
    found = []
    for line in stated:
        requirement, _, marker = line.partition(";")
        name, extra = _NAME.match(requirement), _EXTRA.search(marker)
        if name is not None:
            found.append(
                (name.group().lower(), requirement.replace(" ", "").strip(), extra.group(1) if extra else "")
            )
    return found


def satisfies(version: str, requirement: str) -> bool:
    """Whether `version` is within the ">=", "<", ... limits of `requirement`; only releases are compared.

    `==` and `~=` are not used by edgefx's metadata and not understood.

    Raises:
        ValueError: A comparison that is not understood.
    """
    have = _release(version)
    for operator, limit in _CLAUSE.findall(requirement):
        wanted = _release(limit)
        width = max(len(have), len(wanted))
        left = have + (0,) * (width - len(have))
        right = wanted + (0,) * (width - len(wanted))
        verdicts = {">=": left >= right, "<=": left <= right, "<": left < right, ">": left > right}
        if operator not in verdicts:
            raise ValueError(f"cannot compare versions with '{operator}'")
        if not verdicts[operator]:
            return False
    return True


def _release(version: str) -> tuple[int, ...]:
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in numbers.group().split(".")) if numbers else ()
