"""What an external power meter writes while artifacts run: a CSV file of times and watts that grows.

The file has a header line with the columns ``time`` and ``watts``; others are passed over. Times are seconds
since 1970, or ISO 8601 with an offset from UTC. It is aligned by wall clock, so that it is refused where its
clock cannot be this machine's: each line must be written about when it says it was measured.
"""

from __future__ import annotations

import csv
import io
import math
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from edgefx.errors import UsageError

_SKEW_S = 2.0  # between a line's time and when it was written, that a meter's buffers may explain
_SILENT_S = 5.0  # after which a meter seems to have stopped
_LEAST_SAMPLES = 10  # of an artifact
_GAP = 5.0  # median intervals without a sample
_LEAST_WAIT_S = 10.0  # for what the meter has not written yet
_MOST_BYTES = 256 * 10**6
_EXAMPLE = "a line is '1767225600.25,4.81' under the header 'time,watts', or '2026-01-01T00:00:00.25Z,4.81'"


@dataclass(frozen=True)
class PowerLog:
    """A meter's file."""

    path: Path

    def check(self) -> float:
        """See that the meter runs, and by the clock of this machine; returns the seconds between its samples.

        Raises:
            UsageError: The file cannot be read, is not being written, or the meter's clock is another.
        """
        times, _ = self._samples()
        between = median(after - before for before, after in pairwise(times))
        written = self.path.stat().st_mtime
        ahead = times[-1] - written
        if abs(ahead) > _SKEW_S + 2 * between:
            when = "after" if ahead > 0 else "before"
            raise UsageError(
                f"{self.path}: its last line is of {abs(ahead):.0f} s {when} it was written: the meter has"
                " another clock",
                hint="set both clocks (NTP), and give times in UTC or with their offset; let the meter write"
                " each line at once",
            )
        if time.time() - written > _SILENT_S + 3 * between:
            raise UsageError(
                f"{self.path}: nothing was written to it for {time.time() - written:.0f} s",
                hint="let the meter record while edgefx measures",
            )
        return between

    def joules(self, begin_s: float, end_s: float) -> float:
        """Return the energy between two moments of this machine's clock.

        Waits for what the meter has not written yet.

        Raises:
            UsageError: The file does not cover them, or has too few samples of them.
        """
        give_up = time.monotonic() + _LEAST_WAIT_S
        times, watts = self._samples()
        while times[-1] < end_s and time.monotonic() < give_up:
            time.sleep(0.2)
            times, watts = self._samples()
        if times[0] > begin_s or times[-1] < end_s:
            how = f"it ends {end_s - times[-1]:.1f} s too early"
            if times[0] > begin_s:
                how = f"it begins {times[0] - begin_s:.1f} s too late"
            raise UsageError(
                f"{self.path}: it does not cover the measurement: {how}",
                hint="let the meter record from before edgefx starts until it has ended",
            )
        first, last = bisect_left(times, begin_s), bisect_left(times, end_s)
        if last - first < _LEAST_SAMPLES:
            raise UsageError(
                f"{self.path}: {last - first} samples in {end_s - begin_s:.1f} s are too few",
                hint=f"let the meter sample at least every {(end_s - begin_s) / _LEAST_SAMPLES:.1f} s",
            )
        between = [after - before for before, after in pairwise(times[max(0, first - 1) : last + 1])]
        if max(between) > _GAP * median(between):
            raise UsageError(
                f"{self.path}: it has a gap of {max(between):.1f} s in the measurement",
                hint="measure again, with a meter that samples evenly",
            )
        at = [begin_s, *times[first:last], end_s]
        of = [_between(times, watts, begin_s), *watts[first:last], _between(times, watts, end_s)]
        return sum(
            (after - before) * (one + other) / 2
            for (before, after), (one, other) in zip(pairwise(at), pairwise(of), strict=True)
        )

    def _samples(self) -> tuple[list[float], list[float]]:
        found = list(self._read())
        if len(found) < 2:
            raise UsageError(f"{self.path}: fewer than two samples", hint=_EXAMPLE)
        times = [time for time, _ in found]
        for number, (before, after) in enumerate(pairwise(times)):
            if after <= before:
                raise UsageError(f"{self.path}: sample {number + 2} is not later than the one before it")
        return times, [watts for _, watts in found]

    def _read(self) -> Iterator[tuple[float, float]]:
        from edgefx.storage.regular import read_bytes

        try:
            text = read_bytes(self.path, limit_bytes=_MOST_BYTES).decode("utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be read: {error.strerror}", hint=_EXAMPLE) from error
        except ValueError as error:
            raise UsageError(f"{self.path}: {error}", hint=_EXAMPLE) from error
        complete = text[: text.rfind("\n") + 1]  # the meter may be about to write the last line
        rows = csv.reader(io.StringIO(complete), strict=True)
        try:
            columns = [name.strip().lower() for name in next(rows, [])]
            if not {"time", "watts"} <= set(columns):
                raise UsageError(f"{self.path}: no columns 'time' and 'watts'", hint=_EXAMPLE)
            at, of = columns.index("time"), columns.index("watts")
            for row in rows:
                yield _moment(row[at]), _watts(row[of])
        except (ValueError, IndexError, OverflowError, csv.Error) as error:
            raise UsageError(f"{self.path}: line {rows.line_num}: {error}", hint=_EXAMPLE) from error


def _moment(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        when = datetime.fromisoformat(text.strip())
        if when.tzinfo is None:
            raise ValueError(f"'{text.strip()[:40]}' has no offset from UTC") from None
        found = when.timestamp()
    if not math.isfinite(found):
        raise ValueError(f"'{text.strip()[:40]}' is no time")
    return found


def _watts(text: str) -> float:
    found = float(text)
    if not 0 <= found < math.inf:
        raise ValueError(f"'{text.strip()[:40]}' are no watts")
    return found


def _between(times: list[float], watts: list[float], moment: float) -> float:
    """Interpolate the power at a moment that the samples enclose."""
    after = max(1, bisect_left(times, moment))
    share = (moment - times[after - 1]) / (times[after] - times[after - 1])
    return watts[after - 1] + share * (watts[after] - watts[after - 1])
