"""Which of the packages that edgefx uses are installed, without importing them."""

from __future__ import annotations

import re
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
    "tensorflow-model-optimization": "tensorflow_model_optimization",
}
_CLAUSE = re.compile(r"(>=|<=|==|!=|~=|<|>)\s*([0-9][0-9a-zA-Z.*]*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def module_of(distribution: str) -> str:
    """Return the name to import for a name to install; an import name is returned as it is."""
    return _MODULES.get(distribution, distribution)


def requirement_of(module: str) -> str:
    """Return what to install to be able to import `module`, with the versions that edgefx needs."""
    distribution = next((name for name, known in _MODULES.items() if known == module), module)
    return requirements().get(distribution, distribution)


def is_installed(module: str) -> bool:
    """Whether the top-level package `module` can be found."""
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
            raise MissingDependencyError(module, needed_for=purpose, requirement=requirement_of(module))


def states() -> tuple[PackageState, ...]:
    """Look at every package that edgefx's metadata requires."""
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
        needed_for=_needed_for(module),
        problem=problem,
    )


def _needed_for(module: str) -> tuple[str, ...]:
    from edgefx.targets import TARGETS

    special = {"keras": ("models",), "tf_keras": ("models",), "tensorflow_model_optimization": ("training",)}
    runtimes = dict.fromkeys(str(row.runtime) for row in TARGETS.values() if module in row.packages)
    return tuple(runtimes) or special.get(module, ("everything",))


def requirements() -> dict[str, str]:
    """Return distribution -> requirement as edgefx's metadata states them ("click" -> "click>=8.2")."""
    try:
        stated = metadata.requires("edgefx") or []
    except metadata.PackageNotFoundError:  # a source tree that was never installed: `doctor` says so
        return {}
    found = {}
    for line in stated:
        requirement, _, marker = line.partition(";")
        name = _NAME.match(requirement)
        if name is not None and "extra" not in marker:
            found[name.group().lower()] = requirement.replace(" ", "").strip()
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
