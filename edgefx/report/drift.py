"""What `edgefx drift` found, for people and as OpenMetrics text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from edgefx.report.openmetrics import escaped
from edgefx.report.terminal import table
from edgefx.report.text import counted, significant
from edgefx.views import DriftReport

_FEW = 100


def render(report: DriftReport, console: Console) -> None:
    """Print `report` on `console`."""
    console.print(
        Text.assemble(
            (report.target, "bold"),
            f"  {counted(report.images, 'image')} of {report.data} against {report.reference_images}"
            f" {report.role} images of {report.run}",
        ),
        highlight=False,
    )
    console.print()
    shown = table("figure", "reference", "new", "distance", "p", "", left=("",))
    for one in report.tests:
        means = ("-" if value is None else significant(value) for value in (one.reference, one.new))
        came = Text("drift", style="bold red") if one.drifted else Text("")
        shown.add_row(Text(one.test), *means, f"{one.distance:.3f}", f"{one.p_value:.3f}", came)
    console.print(shown, highlight=False)
    console.print()
    for line in lines(report):
        console.print(Text(line), highlight=False)


def lines(report: DriftReport) -> Iterator[str]:
    """Yield what it means."""
    drifted = [one.test for one in report.tests if one.drifted]
    rate = f"{100 * report.alarm_rate:.3g} %"
    if drifted:
        yield f"drift: {', '.join(drifted)}; without any, this is said in at most {rate} of samples"
    else:
        yield f"no drift is seen; p-values are corrected for all tests, the alarm rate is {rate}"
    tested = {one.test for one in report.tests}
    if any(test.endswith("classes") for test in tested) and "features" not in tested:
        yield f"features are not compared: no last layer of {report.target} reads one value of each channel"
    if min(report.images, report.reference_images) < _FEW and not drifted:
        yield f"with fewer than {_FEW} images only large changes are seen"


def openmetrics(report: DriftReport) -> str:
    """Return figures for Prometheus, which end in ``# EOF`` and a newline."""
    families = (
        ("drift_distance", "Distance of new images from those of the run.", lambda one: one.distance),
        ("drift_p_value", "Share of samples without drift that are as far.", lambda one: one.p_value),
        ("drift", "1 where there is drift.", lambda one: int(one.drifted)),
    )
    found = []
    for name, meaning, value in families:
        found += [f"# TYPE edgefx_{name} gauge", f"# HELP edgefx_{name} {meaning}"]
        for one in report.tests:
            labels = f'target="{escaped(report.target)}",test="{escaped(one.test)}"'
            found.append(f"edgefx_{name}{{{labels}}} {value(one)!r}")
    return "\n".join([*found, "# EOF"]) + "\n"
