"""Put a finished run into a bundle: `edgefx bundle`. Nothing is measured or converted for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Self

from edgefx import harmless
from edgefx.bundles import archive, bom, card, csource, mcuboot, oci, serving, signature
from edgefx.bundles.archive import Content
from edgefx.bundles.manifest import (
    NAME,
    SIGNATURE,
    SUMS,
    VERSION,
    BundledImages,
    BundledModel,
    BundledTarget,
    Manifest,
)
from edgefx.errors import UsageError
from edgefx.provenance import reports
from edgefx.report import save
from edgefx.results import RunReport, TargetResult
from edgefx.scores import described, output_of
from edgefx.shipments import Bundle
from edgefx.storage.disk import explained
from edgefx.storage.hashes import hash_file
from edgefx.storage.regular import read_bytes
from edgefx.storage.serde import dumps
from edgefx.targets import select
from edgefx.types import ArtifactFile
from edgefx.verdicts import Verdict

if TYPE_CHECKING:
    from edgefx.types import Artifact

_LABELS = "labels.txt"
_ARTIFACTS = "artifacts"
_CARD = "MODEL_CARD.md"
_C_FOLDER = "c"
_BOOT_FOLDER = "mcuboot"
_C_TARGETS = ("tflm-int8", "tflite-int8")  # what firmware takes: the first of these that there is


@dataclass(frozen=True, kw_only=True)
class _Boot:
    """What an image for MCUboot is made with."""

    version: str
    key: Path
    slot_bytes: int | None

    @classmethod
    def of(cls, version: str | None, key: Path | None, slot_bytes: int | None) -> Self | None:
        """Check what was asked for; None where no image was."""
        if version is None:
            return None
        return cls(version=version, key=mcuboot.checked(version, key=key), slot_bytes=slot_bytes)


def run(
    folder: Path,
    out: Path | None = None,
    *,
    targets: Sequence[str] = (),
    sign: Path | None = None,
    certificate: Path | None = None,
    oci_layout: Path | None = None,
    servings: Sequence[str] = (),
    mcuboot_image: str | None = None,
    mcuboot_key: Path | None = None,
    slot_bytes: int | None = None,
) -> Bundle:
    """Write the bundle of a run.

    Args:
        folder: The run's output folder.
        out: The file; by default ``MODEL.edgefx.zip`` in the folder.
        targets: Names, comma lists or globs; by default all that have an artifact.
        sign: A private key of ECDSA in PEM.
        certificate: The certificate of that key in PEM, followed by those of its issuers; None for the key
            alone.
        oci_layout: A folder to write the same files to as an OCI image layout.
        servings: Model repositories to add the artifacts to, as ``LAYOUT=DIR``; see `serving`.
        mcuboot_image: The version of an image for MCUboot, of the artifact that there are C sources of; None
            for no image.
        mcuboot_key: The private key of that image, in PEM; it takes one.
        slot_bytes: The size of its slot in flash; None for one that is large enough.

    Raises:
        UsageError: There is no such run, target or layout; a file is not the one that its report describes;
            or a key or certificate cannot be used.
        MissingDependencyError: Signing, or the image, takes a package that is not installed.
        OutputError: The bundle or the image layout cannot be written.
        DiskFullError: No space is left.
    """
    if certificate is not None and sign is None:
        raise UsageError("--certificate is that of a key", hint="give --sign KEY, too")
    boot = _Boot.of(mcuboot_image, mcuboot_key, slot_bytes)
    repositories = [serving.parse(text) for text in servings]
    if oci_layout is not None:
        oci.require_free(oci_layout)
    report, document = reports.read(folder)
    results = _chosen(report, targets, folder)
    for layout, _ in repositories:
        serving.check(layout, [result.target for result in results])
    report = replace(report, targets=tuple(results))
    members, manifest = _members(report, document, folder, boot)
    if sign is not None:
        hashes = {name: archive.measured(content)[2] for name, content in members.items()}
        members[SIGNATURE] = signature.sign(archive.safe_name(report.model.name), hashes, sign, certificate)
    path = out if out is not None else folder / f"{archive.safe_name(report.model.name)}.edgefx.zip"
    try:
        archive.write(path, members)
    except OSError as error:
        raise explained(error, path) from error
    image = oci.write(oci_layout, members, manifest) if oci_layout is not None else None
    artifacts = {name: content for name, content in members.items() if isinstance(content, Path)}
    served = [
        one for layout, there in repositories for one in serving.write(layout, there, artifacts, manifest)
    ]
    failed = tuple(
        result.target for result in results if result.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)
    )
    return Bundle(
        path=path,
        size_bytes=path.stat().st_size,
        sha256=hash_file(path),
        targets=tuple(result.target for result in results),
        files=tuple(members),
        signed=sign is not None,
        doubtful=failed,
        oci=image,
        served=tuple(served),
    )


def cards(folder: Path) -> tuple[Path, ...]:
    """Write a model card beside each artifact of a run, as ``ARTIFACT.MODEL_CARD.md``.

    It says of the artifact alone what the card of a bundle says of all that are in it.

    Args:
        folder: The run's output folder.

    Returns:
        The cards.

    Raises:
        UsageError: There is no such run, it has no artifact, or a file is not the one that its report
            describes.
        OutputError: A card cannot be written.
    """
    report, _ = reports.read(folder)
    texts: dict[Path, str] = {}
    for result in _chosen(report, (), folder):
        assert result.artifact is not None
        paths = artifact_files(result.artifact, folder)
        alone = replace(
            report,
            targets=(result,),
            joint=None,
            devices=tuple(
                replace(one, targets=tuple(found for found in one.targets if found.target == result.target))
                for one in report.devices
            ),
        )
        names = {result.target: tuple(harmless.line(path.name) for path in paths)}
        card_of = paths[0].with_name(f"{paths[0].name}.{_CARD}")
        texts[card_of] = card.text(_manifest(alone, alone.targets, names), alone)
    for path, text in texts.items():
        save(text, path, option="--cards")
    return tuple(texts)


def _members(
    report: RunReport, document: bytes, folder: Path, boot: _Boot | None
) -> tuple[dict[str, Content], Manifest]:
    """Return the files of a bundle by name, all but a signature, and its manifest.

    Args:
        report: Of what is bundled.
        document: The run's report as it is.
        folder: Where the artifacts are.
        boot: How to make an image for MCUboot; None for none.

    Raises:
        UsageError: No artifact is for firmware, of which an image is to be made; see `mcuboot.image`.
    """
    names = tuple(map(harmless.line, report.model.class_names))
    members: dict[str, Content] = {reports.NAME: document}
    files: dict[str, tuple[str, ...]] = {}
    made = {result.target for result in report}
    for_c = next((target for target in _C_TARGETS if target in made), None)
    if boot is not None and for_c is None:
        raise UsageError(
            f"--mcuboot: no artifact is for firmware: {', '.join(sorted(made))}",
            hint=f"compile for {' or '.join(_C_TARGETS)}",
        )
    for result in report:
        assert result.artifact is not None
        found = dict(_artifact(result.artifact, folder))
        files[result.target] = tuple(found)
        members |= found
        if result.target == for_c:
            content = read_bytes(next(iter(found.values())))
            sources = csource.of(result, content, names, report.model)
            members |= {f"{_C_FOLDER}/{name}": source for name, source in sources.items()}
            if boot is not None:
                name = f"{_BOOT_FOLDER}/{PurePath(next(iter(found))).stem}-{boot.version}.bin"
                members[name] = mcuboot.image(
                    content, key=boot.key, version=boot.version, slot_bytes=boot.slot_bytes
                )
    if names:
        members[_LABELS] = "".join(f"{name}\n" for name in names).encode()
    manifest = _manifest(report, report.targets, files)
    members[_CARD] = card.text(manifest, report).encode()
    members[bom.NAME] = bom.content(manifest, report)
    members = {NAME: b"", **dict(sorted(members.items()))}
    described = [_file(name, content) for name, content in members.items() if name != NAME]
    members[NAME] = dumps(replace(manifest, files=tuple(described))).encode()
    members[SUMS] = sums_of([_file(NAME, members[NAME]), *described])
    return members, manifest


def sums_of(files: Sequence[ArtifactFile]) -> bytes:
    """Return the checksums of files as `sha256sum --check` reads them, in the order of their names."""
    ordered = sorted(files, key=lambda file: file.path.as_posix())
    return "".join(f"{file.sha256}  {file.path.as_posix()}\n" for file in ordered).encode()


def _chosen(report: RunReport, patterns: Sequence[str], folder: Path) -> list[TargetResult]:
    """Return the results to bundle.

    Raises:
        UnknownNameError: There is no such target.
        UsageError: The run has no artifact of one that was named, or none at all.
    """
    wanted = {row.name for row in select(patterns)} if patterns else None
    made = [result for result in report if result.artifact is not None]
    chosen = [result for result in made if wanted is None or result.target in wanted]
    if not chosen:
        has = ", ".join(result.target for result in made) or "none"
        raise UsageError(f"{folder} has no artifact to bundle; it has: {has}", hint="choose others with -t")
    return chosen


def artifact_files(artifact: Artifact, folder: Path) -> tuple[Path, ...]:
    """Return the files of an artifact, which are those that the run's report describes.

    Raises:
        UsageError: One is missing, or another.
    """
    return tuple(path for _, path in _artifact(artifact, folder))


def _artifact(artifact: Artifact, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of an artifact: path in the bundle, and file.

    Raises:
        UsageError: A file is missing, or not the one that the report describes.
    """
    for file in artifact.files:
        path = folder / file.path.name
        try:
            same = hash_file(path) == file.sha256
        except OSError as error:
            raise UsageError(
                f"{path}: cannot be read: {error.strerror}",
                hint="compile again, or leave its target out with -t",
            ) from error
        if not same:
            raise UsageError(
                f"{path} is not the file that {folder / reports.NAME} describes",
                hint="compile again: figures of one file must not go with another",
            )
        yield f"{_ARTIFACTS}/{archive.safe_name(path.name)}", path


def _manifest(
    report: RunReport, results: Sequence[TargetResult], files: dict[str, tuple[str, ...]]
) -> Manifest:
    model, environment = report.model, report.environment
    return Manifest(
        schema_version=VERSION,
        edgefx=environment.edgefx,
        created=report.created,
        model=BundledModel(
            name=harmless.line(model.name),
            sha256=model.sha256,
            height=model.height,
            width=model.width,
            parameters=model.parameters,
            macs=model.macs,
            output=model.output,
        ),
        color="RGB",
        pixel_range=model.pixel_range,
        class_names=tuple(map(harmless.line, model.class_names)),
        targets=tuple(
            BundledTarget(
                target=result.target,
                files=files[result.target],
                input=result.artifact.inputs[0],
                output=output_of(result.artifact.outputs, model),
                hardware=result.hardware,
                accuracy=result.accuracy,
                latency=result.latency,
                verdict=result.verdict,
                compilation=result.compilation,
                outputs=described(result.artifact.outputs, model),
            )
            for result in results
            if result.artifact is not None
        ),
        data=tuple(
            BundledImages(
                role=data.role,
                images=data.images,
                sha256=data.sha256,
                resize=data.resize,
                interpolation=data.interpolation,
            )
            for data in report.data
        ),
        environment={
            "os": environment.os,
            "machine": environment.machine,
            "cpu": environment.cpu,
            "cores": str(environment.cores),
            "python": environment.python,
        },
        packages=environment.packages,
        files=(),
    )


def _file(name: str, content: Content) -> ArtifactFile:
    size, _, sha256 = archive.measured(content)
    return ArtifactFile(path=Path(name), size_bytes=size, sha256=sha256)
