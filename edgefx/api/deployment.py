"""Hand over what a run made, check what was handed over, and compile it for NPUs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.api import values
from edgefx.api.values import OptimiseName, StrPath, Targets, TaskName
from edgefx.protocols import SILENT, Progress
from edgefx.vocabulary import Optimise

if TYPE_CHECKING:
    from edgefx.shipments import Bundle, CheckReport, NpuReport, RolloutReport, VerifiedBundle


def bundle(
    run: StrPath,
    *,
    output: StrPath | None = None,
    targets: Targets | None = None,
    sign: StrPath | None = None,
    certificate: StrPath | None = None,
    oci: StrPath | None = None,
    serving: Sequence[str] = (),
    mcuboot: str | None = None,
    mcuboot_key: StrPath | None = None,
    slot_bytes: int | None = None,
) -> Bundle:
    """Put the artifacts of a run, and all that is known of them, into one archive.

    The same run gives the same bytes.

    Args:
        run: The run's output folder.
        output: The archive; by default ``MODEL.edgefx.zip`` in that folder.
        targets: Names, comma lists or globs; by default every target that has an artifact.
        sign: Sign with this private key of ECDSA, in PEM, in the format of OpenSSF Model Signing.
        certificate: The certificate of that key, in PEM, followed by those of the authorities between it and
            the root; by default the key alone signs.
        oci: A folder to write the same files to as an OCI image layout, for registries.
        serving: Model repositories of inference servers to add the artifacts to, as "triton=DIR",
            "tf-serving=DIR" or "openvino=DIR".
        mcuboot: Put an image of the model alone for the boot loader MCUboot into the archive, of this
            version; it takes `mcuboot_key`.
        mcuboot_key: The private key of that image, in PEM, whose public half the boot loader knows.
        slot_bytes: The size of that image's slot in flash; by default one that is large enough.

    Raises:
        EdgefxError: There is no such run or target, a file is not the one that its report describes, the key
            cannot be used, or the archive cannot be written.

    Example:
        >>> made = edgefx.bundle("build/", targets="tflite-int8")
        >>> print(made.path, made.sha256)
    """
    from edgefx.bundles import make

    return make.run(
        Path(run),
        values.path(output),
        targets=() if targets is None else values.patterns(targets),
        sign=values.path(sign),
        certificate=values.path(certificate),
        oci_layout=values.path(oci),
        servings=serving,
        mcuboot_image=mcuboot,
        mcuboot_key=values.path(mcuboot_key),
        slot_bytes=slot_bytes,
    )


def verify(
    bundle: StrPath,
    *,
    key: StrPath | None = None,
    root: StrPath | None = None,
    signature: StrPath | None = None,
    require_signature: bool = False,
) -> VerifiedBundle:
    """Check every byte of a bundle, and who signed it.

    Args:
        bundle: The archive.
        key: The public key of ECDSA, in PEM, that belongs to the one that it must be signed with.
        root: Certificates of authorities, in PEM, instead of `key`: it must be signed with a key whose
            certificate leads to one of them.
        signature: A file with the signature, made by another tool of OpenSSF Model Signing; by default it is
            in the bundle.
        require_signature: Refuse a bundle without a signature; takes `key` or `root`.

    Raises:
        BundleError: It is damaged or was changed, is of a later version, or its signature is missing or not
            of the key or authority.
        EdgefxError: There is no such file, or the key or a certificate cannot be used.

    Example:
        >>> print(edgefx.verify("digits.edgefx.zip").files)
    """
    from edgefx.bundles import check
    from edgefx.bundles import signature as signatures

    trust = signatures.trust(
        key=values.path(key),
        roots=values.path(root),
        signature=values.path(signature),
        require_signature=require_signature,
    )
    return check.run(Path(bundle), trust=trust)


def check_rollout(
    file: StrPath,
    *,
    key: StrPath | None = None,
    root: StrPath | None = None,
    require_signature: bool = False,
) -> RolloutReport:
    """Say whether a rollout of a bundle to a fleet of devices is ready to begin. Nothing is rolled out.

    Args:
        file: The YAML file that describes it; see docs/how-to/ship.md.
        key: As for `verify`, for both bundles.
        root: Likewise.
        require_signature: Likewise.

    Raises:
        BundleError: A bundle is damaged, was changed, or is not signed as asked for.
        EdgefxError: The file describes no rollout, there is no such bundle, or the key or a certificate
            cannot be used.

    Example:
        >>> print(edgefx.check_rollout("rollout.yaml").problems)
    """
    from edgefx.bundles import rollout, signature

    trust = signature.trust(
        key=values.path(key), roots=values.path(root), signature=None, require_signature=require_signature
    )
    return rollout.run(Path(file), trust=trust)


def npu(
    artifact: StrPath,
    *,
    targets: Targets,
    output: StrPath | None = None,
    system_config: str | None = None,
    memory_mode: str | None = None,
    optimise: OptimiseName | None = None,
    progress: Progress = SILENT,
) -> NpuReport:
    """Compile an integer artifact for NPUs, with the compiler's estimates. Nothing is run.

    Args:
        artifact: A .tflite file of the target tflite-int8.
        targets: NPUs, as names, comma lists or globs such as "ethos-u55-*".
        output: The folder to write to; by default the artifact's.
        system_config: The compiler's name for clock and memories; by default what fits the NPU.
        memory_mode: The compiler's name for where weights and activations lie; by default what fits the NPU.
        optimise: What to make small: the time, "Performance", which is the default, or the memory, "Size".
        progress: Where long work and NPUs that fail are reported.

    Returns:
        The artifacts and estimates; an NPU that failed is in it with the reason.

    Raises:
        MissingDependencyError: The compiler is not installed.
        EdgefxError: There is no such artifact, NPU or configuration, or the artifact computes in float.

    Example:
        >>> for one in edgefx.npu("build/b0-int8.tflite", targets="ethos-u55-*").results:
        ...     print(one.target, one.estimate.inference_ms, one.estimate.sram_bytes)
    """
    from edgefx import npus
    from edgefx.pipeline import npu as use_case

    return use_case.run(
        Path(artifact),
        npus.select(values.patterns(targets)),
        progress,
        out=values.path(output),
        options=npus.NpuOptions(
            system_config=system_config,
            memory_mode=memory_mode,
            optimise=values.choice(Optimise, optimise, "optimise") if optimise else None,
        ),
    )


def check(
    model: StrPath,
    *,
    targets: Targets,
    system_config: str | None = None,
    memory_mode: str | None = None,
    optimise: OptimiseName | None = None,
    classes: int | None = None,
    input_size: int | str | None = None,
    task: TaskName | None = None,
    head: str | None = None,
    pixels: str | None = None,
    custom_objects: StrPath | None = None,
    threshold: float | None = None,
    allow_unsafe: bool = False,
    progress: Progress = SILENT,
) -> CheckReport:
    """Say what of a model an NPU would leave to the CPU, or TensorFlow Lite for Microcontrollers not load.

    Args:
        model: As for `compile`.
        targets: NPUs and "tflm-int8": names, comma lists or globs.
        system_config: As for `npu`.
        memory_mode: As for `npu`.
        optimise: As for `npu`.
        classes: The number of classes of a zoo model.
        input_size: Input height and width in pixels: 224, or "224x320".
        task: As for `compile`.
        head: As for `compile`.
        pixels: As for `compile`.
        custom_objects: As for `compile`.
        threshold: As for `compile`.
        allow_unsafe: Load a model file that would be refused because code in it could run; see SECURITY.md.
        progress: Where long work is reported.

    Returns:
        What was found, with layer, reason and remedy.

    Raises:
        MissingDependencyError: A compiler is not installed.
        EdgefxError: A target is none of a chip, or the model cannot be deployed at all.

    Example:
        >>> for one in edgefx.check("b0.keras", targets="ethos-u55-*").findings:
        ...     print(one.layer, one.reason, one.remedy)
    """
    from edgefx import npus
    from edgefx import targets as table
    from edgefx.pipeline import check as use_case
    from edgefx.system.quiet import quiet

    values.check(2, classes=classes)
    values.input_size(input_size)
    with quiet():
        return use_case.run(
            os.fspath(model),
            table.select(values.patterns(targets)),
            progress,
            options=npus.NpuOptions(
                system_config=system_config,
                memory_mode=memory_mode,
                optimise=values.choice(Optimise, optimise, "optimise") if optimise else None,
            ),
            classes=classes,
            input_size=input_size,
            hints=values.hints(task, head, pixels, custom_objects, threshold),
            allow_unsafe=allow_unsafe,
        )
