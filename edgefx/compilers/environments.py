"""Virtual environments of compilers that cannot share edgefx's: their packages pin others, or are huge.

An environment is made on request, from a lock that edgefx ships: every package with its version and its
hashes. It is kept beside the cache of results, under a name that changes with the lock and with Python, so
that another edgefx makes another one. A compiler in it is called by its commands, never imported.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from edgefx.errors import NotSetUpError, OutputError
from edgefx.harmless import line
from edgefx.protocols import Progress
from edgefx.shipments import SetUp
from edgefx.storage.disk import explained
from edgefx.storage.places import cache_folder

VARIABLE = "EDGEFX_ENVIRONMENTS"
_BIN = "Scripts" if sys.platform == "win32" else "bin"
_WHOLE = "edgefx-whole"  # put last into an environment: without it, it is half made


@dataclass(frozen=True, kw_only=True)
class OwnEnvironment:
    """An environment, made or not.

    Attributes:
        name: Of the compiler.
        purpose: What it is for, for messages.
        lock: The requirements with hashes, as pip takes them.
        megabytes: What it takes on the disk, roughly.
    """

    name: str
    purpose: str
    lock: Path
    megabytes: int

    @property
    def folder(self) -> Path:
        """Where it is, or will be.

        Raises:
            OutputError: There is no home folder, and nothing else is said.
        """
        given = os.environ.get(VARIABLE)
        try:
            parent = Path(given).absolute() if given else cache_folder() / "environments"
        except RuntimeError as error:
            raise OutputError(
                f"{self.name} cannot be kept anywhere: there is no home folder", hint=f"set {VARIABLE}"
            ) from error
        made_of = f"{platform.python_version()} {sys.platform} {platform.machine()}".encode()
        digest = hashlib.sha256(self.lock.read_bytes() + made_of).hexdigest()
        return parent / f"{self.name}-{digest[:12]}"

    @property
    def is_ready(self) -> bool:
        """Whether it was made."""
        try:
            return (self.folder / _WHOLE).is_file()
        except OutputError:  # there is no place where it could be
            return False

    def versions(self) -> dict[str, str]:
        """Return what is installed in it, by distribution."""
        places = [str(place) for place in self.folder.glob("[Ll]ib*/**/site-packages")]
        found = {one.name: one.version for one in metadata.distributions(path=places)}
        return {
            name: found[name] for name in sorted(found, key=str.lower) if name not in ("pip", "setuptools")
        }

    def command(self, name: str) -> str:
        """Return the path of one of its commands.

        Raises:
            NotSetUpError: The environment was not made.
        """
        if not self.is_ready:
            raise NotSetUpError(
                f"{self.purpose} need {self.name}, which is installed in an environment of its own",
                hint=f"edgefx setup {self.name} (about {self.megabytes} MB; it takes the internet, once)",
            )
        return str(self.folder / _BIN / name)

    def make(self, progress: Progress) -> SetUp:
        """Make it, completely or not at all, where it is not there yet.

        Raises:
            NotSetUpError: pip could not install the packages.
            OutputError: It cannot be written.
            DiskFullError: No space is left.
        """
        folder, was_ready = self.folder, self.is_ready
        if not was_ready:
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                with progress.task(f"install {self.name} in {folder}"):
                    self._make(folder)
            except OSError as error:
                raise explained(error, folder) from error
        return SetUp(name=self.name, path=folder, packages=self.versions(), was_ready=was_ready)

    def _make(self, folder: Path) -> None:
        try:
            own_pip = find_spec("pip") is None  # which takes longer to unpack than small packages to install
            venv.create(folder, with_pip=own_pip, clear=True)
            _install(self, str(folder / _BIN / "python"), own_pip=own_pip)
            (folder / _WHOLE).touch()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _install(environment: OwnEnvironment, python: str, *, own_pip: bool) -> None:
    command = [python, "-m", "pip"] if own_pip else [sys.executable, "-m", "pip", "--python", python]
    command += ["install", "--quiet", "--disable-pip-version-check"]
    command += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(environment.lock)]
    ran = subprocess.run(  # noqa: S603 - pip, arguments as a list
        command, capture_output=True, text=True, errors="replace", check=False
    )
    if ran.returncode:
        said = [text for text in ran.stderr.splitlines() if text.startswith("ERROR")]
        raise NotSetUpError(
            f"{environment.name} cannot be installed: {line((said or ['pip failed'])[0])}",
            hint="it takes the internet, or an index that pip knows (PIP_INDEX_URL, PIP_FIND_LINKS)",
        )
