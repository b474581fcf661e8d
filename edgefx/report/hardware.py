"""What was measured of a device, as a table: `edgefx device profile`."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group
from rich.text import Text

from edgefx.hardware import HardwareProfile, Role, RuntimeProfile
from edgefx.report.terminal import Facts, table
from edgefx.report.text import counted, ratio
from edgefx.vocabulary import Runtime


def render(profile: HardwareProfile, console: Console) -> None:
    """Print which forms are faster in INT8, and by how much."""
    console.print(Facts(list(facts(profile))), highlight=False)
    for runtime, found in profile.runtimes:
        console.print(_table(runtime, found), highlight=False)


def facts(profile: HardwareProfile) -> Iterator[tuple[str, str]]:
    """Say what was measured, and what it comes to."""
    yield "CPU", f"{profile.cpu}, {counted(profile.cores, 'core')}, {profile.hardware}"
    yield "measured", f"on {profile.measured}, edgefx {profile.edgefx}"
    for runtime, found in profile.runtimes:
        dense = [form for form in found.forms if form.role not in (Role.DEPTHWISE, Role.CONVERSION)]
        pays = sum(map(found.pays, dense))
        yield str(runtime), f"{found.package}: {pays} of {counted(len(dense), 'dense form')} faster in INT8"


def _table(runtime: Runtime, found: RuntimeProfile) -> Group:
    times = {(time.form, time.threads): time for time in found.times}
    titles = [counted(threads, "thread") for threads in found.threads]
    shown = table(f"{runtime}: INT8 / float", *titles, "in INT8", left=(f"{runtime}: INT8 / float",))
    for form in sorted(found.forms, key=lambda form: (form.role.value, form.kernel, -form.positions, form)):
        cells = [
            ratio(times[form, threads].ratio) if (form, threads) in times else "-"
            for threads in found.threads
        ]
        dense = form.role not in (Role.DEPTHWISE, Role.CONVERSION)
        shown.add_row(str(form), *cells, "yes" if dense and found.pays(form) else "-")
    return Group(Text(), shown)
