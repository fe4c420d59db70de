"""Summarises hours of load: a slope with its error, percentiles by windows, and the verdicts on them."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from stress.clients import Answer
from stress.soak.samples import Sample

WINDOW_S: Final = 10.0
WARM_UP_SHARE: Final = 1 / 3  # of the time, and at most that long:
WARM_UP_S: Final = 300.0

# The bounds; docs/soak.md gives their reasons
SLOPE_MB_PER_HOUR: Final = 20.0  # of all workers together
SHORT_MINUTES: Final = 15.0  # a shorter soak cannot tell such a slope from the rest of the warm-up, so its bound is:
SHORT_SHARE: Final = 0.15  # of the memory, in the whole time after the warm-up
MORE_DESCRIPTORS: Final = 4
P99_RATIO: Final = 1.5
_SIGMAS: Final = 2.0


class Trend(NamedTuple):
    """A straight line through a series."""

    slope: float  # an hour
    error: float  # one standard error of it

    @property
    def surely_above(self) -> float:
        """A lower bound of the slope, with 97.7 % confidence."""
        return self.slope - _SIGMAS * self.error


class Window(NamedTuple):
    """Answers that were due in the same seconds."""

    at_s: float
    answers: int
    p50_ms: float
    p99_ms: float


class Verdict(NamedTuple):
    """Whether a soak meets one requirement."""

    what: str
    measured: str
    good: bool
    timed: bool = False  # it depends on the momentary speed of the machine


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """All measurements of a soak."""

    minutes: float
    capacity: float  # requests a second of a closed loop
    rate: float  # requests a second that were sent
    begin: float  # time.monotonic()
    answers: list[Answer]
    samples: list[Sample]

    @property
    def warm_up_s(self) -> float:
        """The time that trends and comparisons leave out: memory grows until every kind of request has occurred."""
        return min(WARM_UP_S, WARM_UP_SHARE * self.minutes * 60)

    @property
    def steady(self) -> list[Sample]:
        """The samples after the warm-up."""
        return [sample for sample in self.samples if sample.at_s >= self.warm_up_s]


def trend(seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a least-squares line; its standard error is widened for samples that depend on each other.

    Neighbouring samples of memory are alike, so only a share of them counts as independent: (1 - r) / (1 + r), where r
    is the autocorrelation of the residuals at lag one (Santer et al. 2000, J. Geophys. Res. 105, 7337).
    """
    hours, series = np.asarray(seconds) / 3600, np.asarray(values, float)
    centred = hours - hours.mean()
    spread = float((centred**2).sum())
    slope = float((centred * series).sum()) / spread
    residuals = series - series.mean() - slope * centred
    power = float((residuals**2).sum())
    if power <= 1e-12 * max(1.0, float((series**2).sum())):
        return Trend(slope, 0.0)
    r = min(0.99, max(0.0, float((residuals[1:] * residuals[:-1]).sum()) / power))
    freedom = max(1.0, len(series) * (1 - r) / (1 + r) - 2)
    return Trend(slope, (power / freedom / spread) ** 0.5)


def windows(answers: Sequence[Answer], begin: float) -> list[Window]:
    """Latency percentiles for each ten seconds, from when requests were due to when they were answered."""
    groups: dict[int, list[float]] = {}
    for answer in answers:
        groups.setdefault(int((answer.sent - begin) / WINDOW_S), []).append(answer.seconds * 1e3)
    return [
        Window(index * WINDOW_S, len(group), *(float(p) for p in np.percentile(group, (50, 99))))
        for index, group in sorted(groups.items())
    ]


def memory_trend(soak: Soak) -> Trend:
    """The growth of all workers' memory, in MB an hour."""
    return trend([sample.at_s for sample in soak.steady], [sample.memory / 1e6 for sample in soak.steady])


def memory_bound(soak: Soak) -> float:
    """The growth that is allowed, in MB an hour."""
    if soak.minutes >= SHORT_MINUTES:
        return SLOPE_MB_PER_HOUR
    hours = (soak.minutes * 60 - soak.warm_up_s) / 3600
    return SHORT_SHARE * soak.steady[0].memory / 1e6 / hours


def front_end_trend(soak: Soak) -> Trend:
    """The growth of the front end's memory, in MB an hour."""
    return trend([sample.at_s for sample in soak.steady], [sample.front_end / 1e6 for sample in soak.steady])


def _thirds_p99_ms(soak: Soak) -> tuple[float, float]:
    """The p99 in ms of the first third of the time after the warm-up, and of the last third."""
    begin, end = soak.begin + soak.warm_up_s, soak.begin + soak.minutes * 60
    third = (end - begin) / 3
    first = [answer.seconds for answer in soak.answers if begin <= answer.sent < begin + third]
    last = [answer.seconds for answer in soak.answers if end - third <= answer.sent < end]
    return float(np.percentile(first, 99)) * 1e3, float(np.percentile(last, 99)) * 1e3


def _growth(values: Sequence[int]) -> int:
    """The minimum of the last third less that of the first: connections come and go, but a leak raises the minimum."""
    third = max(1, len(values) // 3)
    return min(values[-third:]) - min(values[:third])


def verdicts(soak: Soak) -> list[Verdict]:
    """The verdicts on a soak, one for each requirement."""
    failures = Counter(answer.status for answer in soak.answers if answer.status >= 500 or answer.status <= 0)
    unexpected = [answer for answer in soak.answers if not answer.kept]
    workers, bound, steady = memory_trend(soak), memory_bound(soak), soak.steady
    pids = {pid for sample in soak.samples for pid in sample.workers}
    died = len(pids) - len(soak.samples[0].workers)
    descriptors = _growth([sample.descriptors for sample in steady])
    temporary = _growth([sample.temporary_files for sample in steady])
    state = _growth([sample.state_files for sample in steady])
    first, last = _thirds_p99_ms(soak)
    return [
        Verdict("5xx responses, or no response", _counted(failures), not failures),
        Verdict("answers that break the contract", f"{len(unexpected)} of {len(soak.answers)}", not unexpected),
        Verdict("workers that died", str(died), died == 0),
        Verdict(
            f"growth of all workers' memory, at most {bound:.0f} MB an hour",
            f"{workers.slope:+.1f} ± {workers.error:.1f} MB an hour",
            workers.surely_above <= bound,
        ),
        Verdict(
            f"growth of open descriptors, at most {MORE_DESCRIPTORS}",
            f"{descriptors:+d}",
            descriptors <= MORE_DESCRIPTORS,
        ),
        Verdict("growth of temporary files, none", f"{temporary:+d}", temporary <= 0),
        Verdict("growth of files in the state folder, none", f"{state:+d}", state <= 0),
        Verdict(
            f"p99 of the last third, at most {P99_RATIO} times that of the first",
            f"{first:.0f} ms, then {last:.0f} ms",
            last <= P99_RATIO * first,
            timed=True,
        ),
    ]


def _counted(failures: Counter[int]) -> str:
    return ", ".join(f"{number} of {status}" for status, number in sorted(failures.items())) or "0"
