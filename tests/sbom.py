"""The bill of materials of what `make` installs: `make sbom`, or ``python -m tests.sbom [LOCK] > sbom.json``.

CycloneDX 1.6 as JSON, made of the lock file (names, versions, hashes) and of what the installed packages say
of themselves (licences, what requires what). Nothing is downloaded and nothing depends on the time: the same
lock gives the same bytes. Packages that the lock holds for other platforms or Pythons are left out.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgefx.version import __version__

_ROOT = Path(__file__).resolve().parents[1]
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_OWN = f"pkg:pypi/edgefx@{__version__}"


def main(arguments: list[str]) -> int:
    """Write the bill of a lock file to stdout."""
    path = Path(arguments[0]) if arguments else _ROOT / "requirements.lock"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        print(f"{path}: {error.strerror}", file=sys.stderr)
        return 2
    json.dump(bill(text), sys.stdout, indent=1)
    print()
    return 0


def bill(lock: str) -> dict[str, Any]:
    """Return the bill of what a lock file installs here.

    Args:
        lock: Its text: lines ``name==version`` with markers and hashes, as `make lock` writes them.
    """
    locked = list(_locked(lock))
    references = {name: f"pkg:pypi/{name}@{version}" for name, version, _ in locked}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": _OWN,
                "name": "edgefx",
                "version": __version__,
                "purl": _OWN,
                "licenses": [{"expression": "Apache-2.0"}],
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": references[name],
                "name": name,
                "version": version,
                "purl": references[name],
                **_licences(name),
                # Of all files that the lock accepts; which one is installed depends on the platform.
                "properties": [{"name": "lock:sha256", "value": one} for one in hashes],
            }
            for name, version, hashes in locked
        ],
        "dependencies": [
            {"ref": _OWN, "dependsOn": sorted(_references(_required("edgefx", "all"), references))},
            *(
                {"ref": own, "dependsOn": sorted(_references(_required(name), references))}
                for name, own in references.items()
            ),
        ],
    }


def _locked(lock: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (canonical name, version, hashes) of each package that is for this platform and Python."""
    for entry in lock.replace("\\\n", " ").splitlines():
        stated = entry.split("#")[0].split("--hash")[0].strip()
        if not stated:
            continue
        requirement = Requirement(stated)
        if requirement.marker is None or requirement.marker.evaluate():
            (pin,) = requirement.specifier
            yield canonicalize_name(requirement.name), pin.version, sorted(_HASH.findall(entry))


def _licences(name: str) -> dict[str, Any]:
    """Return what an installed package says of its licence, in CycloneDX's terms."""
    try:
        about = metadata.metadata(name).json
    except metadata.PackageNotFoundError:
        return {}
    if expression := about.get("license_expression"):
        return {"licenses": [{"expression": expression}]}
    classified = [
        line.rpartition(" :: ")[2] for line in about.get("classifier", ()) if line.startswith("License ::")
    ]
    stated = [line for line in str(about.get("license", "")).splitlines() if line.strip()]
    names = classified or stated[:1]
    return {"licenses": [{"license": {"name": one.strip()}} for one in names]} if names else {}


def _required(name: str, extra: str = "") -> Iterator[str]:
    """Yield the canonical names of what an installed package requires here."""
    try:
        stated = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for line in stated:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield canonicalize_name(requirement.name)


def _references(names: Iterable[str], references: dict[str, str]) -> set[str]:
    return {references[name] for name in names if name in references}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
