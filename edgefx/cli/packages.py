"""Which of the packages that edgefx uses are installed, without importing them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata, util

# Import name -> name to install, where they differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "ai_edge_litert": "ai-edge-litert",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "tf_keras": "tf-keras",
    "tensorflow_model_optimization": "tensorflow-model-optimization",
}


@dataclass(frozen=True, kw_only=True)
class PackageState:
    """One package that edgefx uses.

    Attributes:
        module: Import name.
        distribution: Name to install.
        requirement: Distribution and versions, as edgefx's own metadata states them.
        version: Installed version, or None.
        needed_for: What cannot be done without it.
        problem: Why it cannot be used; empty when it can.
    """

    module: str
    distribution: str
    requirement: str
    version: str | None
    needed_for: tuple[str, ...]
    problem: str = ""


def distribution_of(module: str) -> str:
    """Return the name to install for an import name."""
    return DISTRIBUTIONS.get(module, module)


def is_installed(module: str) -> bool:
    """Whether the top-level package `module` can be found."""
    try:
        return util.find_spec(module) is not None
    except (ImportError, ValueError):  # a module that replaced itself in sys.modules has no spec
        return False


def version_of(module: str) -> str | None:
    """Return the installed version of `module`'s distribution, or None."""
    try:
        return metadata.version(distribution_of(module))
    except metadata.PackageNotFoundError:
        return None


def requirements() -> dict[str, str]:
    """Return distribution -> requirement as edgefx's metadata states them ("click" -> "click>=8.2")."""
    found: dict[str, str] = {}
    try:
        stated = metadata.requires("edgefx") or []
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return found
    for line in stated:
        requirement, _, marker = line.partition(";")
        if "extra" in marker:
            continue
        name = requirement
        for separator in "<>=!~ [(":
            name = name.partition(separator)[0]
        found[name.lower()] = requirement.strip()
    return found
