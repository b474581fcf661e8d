"""Two runs, two result cards or two folders of cards compared: what changed, and what that did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgefx.errors import UsageError
from edgefx.metrics import METRICS
from edgefx.provenance import cards, comparison
from edgefx.provenance.cards import ResultCard
from edgefx.provenance.comparison import Change, RunDiff, TargetDiff


def diff(before: Path, after: Path) -> RunDiff:
    """Compare two runs (`edgefx.provenance.comparison`), or cards.

    Cards are compared where they are of the same model, target and device; two single ones whatever they are
    of.

    Raises:
        UsageError: One of both is a card and the other is none, or they have none in common; or what runs
            raise.
        DataError: Predictions or a lock file that are damaged.
    """
    if not cards.are_named(before) and not cards.are_named(after):
        return comparison.diff(before, after)
    for path in (before, after):
        if not cards.are_named(path):
            other = after if path == before else before
            raise UsageError(
                f"{path}: a run, and {other}: a card",
                hint="make cards of the run first: edgefx device card RUN -o cards/",
            )
    first, second = ({_key(card): card for card in cards.read(path)} for path in (before, after))
    if len(first) == len(second) == 1:
        pairs = [(next(iter(first.values())), next(iter(second.values())))]
    else:
        pairs = [(card, second[key]) for key, card in first.items() if key in second]
    if not pairs:
        raise UsageError(
            f"{before} and {after} have no card of the same model, target and device",
            hint=f"the first has {', '.join('/'.join(key) for key in first)}",
        )
    paired = {id(card) for pair in pairs for card in pair}
    names = {card.model for card in (*first.values(), *second.values())}

    def name(card: ResultCard) -> str:
        return f"{card.model}/{card.name}" if len(names) > 1 else card.name

    changes = dict.fromkeys(
        change for pair in pairs for change in _changes(*pair, name(pair[0]) if len(pairs) > 1 else "")
    )
    alone = [(card, is_first) for one, is_first in ((first, True), (second, False)) for card in one.values()]
    return RunDiff(
        before=before,
        after=after,
        changes=tuple(changes),
        targets=(
            *(
                TargetDiff(
                    target=name(old),
                    before=_figures(old),
                    after=_figures(new),
                    identical=bool(old.content) and old.content == new.content,
                    flips=None,
                )
                for old, new in pairs
            ),
            *(
                TargetDiff(
                    target=name(card),
                    before=_figures(card) if is_first else None,
                    after=None if is_first else _figures(card),
                    identical=False,
                    flips=None,
                )
                for card, is_first in alone
                if id(card) not in paired
            ),
        ),
        notes=("cards have no answers of single images: figures are compared, and not image by image",),
    )


def _key(card: ResultCard) -> tuple[str, str, str]:
    return card.model, card.target, card.device


def _changes(old: ResultCard, new: ResultCard, of: str) -> Iterator[Change]:
    """Yield what differs but for the figures; `of` names the cards where there are several."""
    pairs = [
        ("model", "model", old.model, new.model),
        ("model", "target", old.target, new.target),
        ("version", "edgefx", old.edgefx, new.edgefx),
        *(
            ("version", name, old.packages.get(name, ""), new.packages.get(name, ""))
            for name in sorted({*old.packages, *new.packages})
        ),
        ("machine", "device", old.device, new.device),
        ("machine", "os", old.os, new.os),
        ("machine", "architecture", old.machine, new.machine),
        ("machine", "cpu", old.cpu, new.cpu),
        ("machine", "class", str(old.hardware or ""), str(new.hardware or "")),
        ("machine", "cores", str(old.cores), str(new.cores)),
        ("machine", "answers", _answers(old), _answers(new)),
    ]
    if old.latency and new.latency:
        pairs.append(("machine", "ran in", old.latency.precision_ran, new.latency.precision_ran))
        pairs.append(("recipe", "threads", str(old.latency.threads), str(new.latency.threads)))
    for kind, name, was, now in pairs:
        if was != now:
            yield Change(kind=kind, name=f"{name} ({of})" if of else name, before=was, after=now)


def _answers(card: ResultCard) -> str:
    return "" if card.answers is None else str(card.answers.match)


def _figures(card: ResultCard) -> dict[str, float | None]:
    return {row.id: row.value(card.figures) for row in METRICS.values()}
