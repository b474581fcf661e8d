"""The results of `edgefx evaluate` and `edgefx benchmark`, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, Group
from rich.text import Text

from edgefx.measured import OutputEvaluation
from edgefx.metrics import METRICS, Figures, Origin, tasks
from edgefx.report import execution, explained
from edgefx.report.findings import answers_line, data_line, noise_line, rounding, speed_line
from edgefx.report.terminal import Facts, Heading, fitting
from edgefx.report.text import counted, interval, metric, percent, signed
from edgefx.results import Accuracy, Latency
from edgefx.views import Benchmark, DeviceAnswers, Evaluation


def facts(result: Evaluation) -> list[tuple[str, str | Text]]:
    """Return what was measured, each with its label."""
    rows = [] if result.outputs else _figures(result, result.baseline)
    for one in result.outputs:
        rows += [(f"{one.name}: {label}", text) for label, text in _figures(one, result.baseline)]
    where = "this host" if result.device is None else result.device.device
    speed = f"{result.images_per_s:.0f} images/s on {where} with {counted(result.threads, 'thread')}"
    rows += [("images", data_line(result.data)), ("ran in", f"{result.precision_ran}, {speed}")]
    if result.device is not None:
        rows += _on_device(result.device)
    return [*rows, *(("note", note) for note in result.notes)]


def render_evaluation(result: Evaluation, console: Console) -> None:
    """Print an evaluation."""
    rows = facts(result)
    if result.model is not None:
        rows += explained.rows(result.explanations, result.model)
    doubtful = [
        Text.assemble(("doubtful", "bold yellow"), f": {doubt.reason}; {doubt.advice}")
        for doubt in result.doubts
    ]
    title = Text(str(result.artifact), style="bold")
    console.print(Group(title, *doubtful, Facts(rows)), highlight=False)


def _figures(result: Evaluation | OutputEvaluation, baseline: str | None) -> list[tuple[str, str | Text]]:
    """Return what was measured of an artifact, or of one of its outputs."""
    rows: list[tuple[str, str | Text]] = []
    if result.top1 is not None:
        rows.append(("top-1", Text(percent(result.top1), style="bold")))
    if result.top5 is not None:
        rows.append(("top-5", percent(result.top5)))
    compared = result.comparison
    is_search = result.figures is not None and result.figures.cosine is not None  # of embeddings
    if compared is not None:
        if compared.drop_pp is not None:
            spread = interval(compared.drop_ci95_pp)
            drop = f"{signed(compared.drop_pp)} pp" + (f" (95% CI {spread})" if spread else "")
            rows.append(("drop", Text(drop, style="bold")))
            rows.append(("baseline", f"top-1 {percent(compared.baseline_top1)}: {baseline}"))
        else:
            rows.append(("baseline", f"{baseline}"))
        if compared.agreement is not None:
            same = "find the baseline's nearest image" if is_search else "get the baseline's class"
            rows.append(("agreement", f"{percent(compared.agreement)} of images {same}"))
    if result.figures is not None:
        for row in tasks.ROWS:
            value = getattr(result.figures, row.id)
            if value is not None:
                rows.append((row.heading or row.name, metric(row, value)))
    if isinstance(compared, Accuracy) and compared.task is None:
        rows += [
            ("mean KL", f"{compared.mean_kl:.3g} nats"),
            ("max |dp|", f"{compared.max_abs_dp:.3g}"),
        ]
        if compared.score_step is not None:
            rows.append(("note", rounding(compared.score_step)))
    return rows


def _on_device(found: DeviceAnswers) -> list[tuple[str, str | Text]]:
    """Say where an artifact ran, and how the answers compare with those of this machine."""
    packages = ", ".join(f"{name} {version}" for name, version in found.environment.packages.items())
    machine = f"{found.device}: {found.environment.cpu}, {found.hardware}; {packages}"
    return [("device", machine), ("as here?", answers_line(found))]


def render_benchmark(result: Benchmark, console: Console, *, limit: int = 10) -> None:
    """Print latencies, and what ran where that was asked for, with the `limit` slowest layers."""
    figures = {name: Figures(latency=latency) for name, latency in result.latencies.items()}
    rows = [
        row
        for row in METRICS.values()
        if row.origin is Origin.LATENCY
        and row.heading
        and any(row.value(one) is not None for one in figures.values())
    ]
    headings = [
        Heading(title="artifact"),
        *(Heading(title=row.heading, rank=2 if row.optional else 1) for row in rows),
        Heading(title="rounds", rank=3),
        Heading(title="ran in", rank=1),
    ]
    cells = [
        [
            name,
            *(metric(row, row.value(figures[name])) for row in rows),
            str(latency.rounds),
            latency.precision_ran,
        ]
        for name, latency in result.latencies.items()
    ]
    counts = sorted({latency.threads for latency in result.latencies.values()})
    threads = f"{' and '.join(map(str, counts))} thread{'' if counts == [1] else 's'}"
    for part in fitting(headings, cells, console):
        console.print(part, highlight=False)
    if result.device == "host":
        where = f"host latency ({result.environment.cpu}), not an edge device"
    else:
        where = f"on {result.device} ({result.environment.cpu}, {result.hardware})"
    line = f"{where}; batch 1, {threads}, interleaved; {_extent(result.latencies.values())}"
    console.print(Text(line, style="dim"))
    for name, latency in result.latencies.items():
        if latency.ratio_to_float not in (None, 1.0):
            console.print(Text(f"{name}: {speed_line(latency)}"), highlight=False)
    _render_throughput(result, console)
    for name, latency in result.latencies.items():
        if latency.noisy:
            warning = Text.assemble(("warning", "bold yellow"), f": {name}: {noise_line(latency)}")
            console.print(warning, highlight=False)
    if result.profiles:
        execution.render(result, console, limit=limit)


def _render_throughput(result: Benchmark, console: Console) -> None:
    """Print throughput, where it was measured, and why it was not."""
    headings = [Heading(title="artifact")]
    headings += [Heading(title=one) for one in ("batch", "streams", "threads", "images/s", "range", "CPU")]
    cells = [
        [
            name,
            *map(str, (one.batch, one.streams, one.threads)),
            f"{one.images_per_s:.4g}",
            f"{one.slowest_per_s:.4g} to {one.fastest_per_s:.4g}",
            percent(one.cpu_utilization, 0),
        ]
        for name, found in result.throughputs.items()
        for one in found
    ]
    if cells:
        console.print()
        for part in fitting(headings, cells, console):
            console.print(part, highlight=False)


def _extent(latencies: Iterable[Latency]) -> str:
    """Say how long artifacts were warmed up and timed, and which were not warm by then."""
    found = list(latencies)
    said = f"warmed up with {_span([one.warmup_rounds or 0 for one in found])} inferences"
    cold = sum(one.warmed_up is False for one in found)
    if cold:
        said += f" ({cold} of {len(found)} still getting faster)"
    timed = _span([round((one.timed_ms or 0.0) / 1e3, 3) for one in found])
    launches = _span([one.launches or 1 for one in found])
    counts = _span([one.rounds for one in found])
    return f"{said}, {counts} timed for {timed} s; launches of each: {launches}"


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
