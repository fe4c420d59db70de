import msgspec
import numpy as np
import pytest

from scripts.building.golden import photograph
from stress.clients import Answer
from stress.questions import Body, good
from stress.soak.__main__ import mixture, time_cells, verdict_cells
from stress.soak.samples import Sample
from stress.soak.statistics import Soak, Verdict, Window, trend, verdicts, windows

MINUTES = 20
BEGIN = 1000.0


def sample(second: float, memory: int = 500_000_000, pid: int = 7, **held: int) -> Sample:
    figures = {"front_end": 300_000_000, "descriptors": 100, "temporary_files": 40, "state_files": 9, "log_bytes": 0}
    return Sample(at_s=second, workers={pid: memory}, **(figures | held))


def answer(second: float, seconds: float = 0.1, status: int = 200, *, kept: bool = True) -> Answer:
    return Answer(BEGIN + second, seconds, status, "1.0", "cat", "cat", kept)


def soaked(answers: list[Answer] | None = None, samples: list[Sample] | None = None) -> Soak:
    seconds = range(MINUTES * 60)
    return Soak(
        minutes=MINUTES,
        capacity=100,
        rate=80,
        begin=BEGIN,
        answers=[answer(second) for second in seconds] if answers is None else answers,
        samples=[sample(second) for second in seconds[::2]] if samples is None else samples,
    )


def bad(soak: Soak) -> list[str]:
    return [verdict.what.partition(",")[0] for verdict in verdicts(soak) if not verdict.good]


def test_the_slope_of_a_straight_line_is_exact() -> None:
    seconds = np.arange(100) * 2.0
    found = trend(list(seconds), list(5 + seconds * 20 / 3600))
    assert found.slope == pytest.approx(20)
    assert found.error == pytest.approx(0, abs=1e-6)


def test_the_error_is_that_of_independent_samples_where_they_are() -> None:
    """Against the spread of the slopes of many series."""
    random, seconds = np.random.default_rng(1), list(np.arange(300) * 2.0)
    found = [trend(seconds, list(random.normal(500, 3, 300))) for _ in range(300)]
    spread = float(np.std([line.slope for line in found]))
    assert float(np.mean([line.error for line in found])) == pytest.approx(spread, rel=0.15)


def test_the_error_is_wider_where_samples_follow_each_other() -> None:
    random, seconds = np.random.default_rng(1), list(np.arange(400) * 2.0)
    found = []
    for _ in range(200):
        series = np.zeros(400)
        for index, noise in enumerate(random.normal(0, 1, 399), 1):
            series[index] = 0.8 * series[index - 1] + noise
        found.append(trend(seconds, list(series)))
    spread = float(np.std([line.slope for line in found]))
    assert float(np.mean([line.error for line in found])) == pytest.approx(spread, rel=0.25)


def test_a_window_has_the_percentiles_of_what_was_due_in_it() -> None:
    answers = [answer(second / 10, seconds=second / 1000) for second in range(1, 100)] + [answer(25, seconds=9)]
    first, third = windows(answers, BEGIN)
    assert first == pytest.approx(Window(0.0, 99, 50, 98.02))
    assert third == Window(20.0, 1, 9000.0, 9000.0)


def test_a_steady_server_passes() -> None:
    assert bad(soaked()) == []


def test_an_answer_of_5xx_does_not_pass() -> None:
    assert bad(soaked([*soaked().answers, answer(350, status=500, kept=False)])) == [
        "5xx responses",
        "answers that break the contract",
    ]


@pytest.mark.parametrize("status", [0, -1])
def test_no_answer_does_not_pass(status: int) -> None:
    assert bad(soaked([*soaked().answers, answer(3, status=status, kept=False)])) == [
        "5xx responses",
        "answers that break the contract",
    ]


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("descriptors", "growth of open descriptors"),
        ("temporary_files", "growth of temporary files"),
        ("state_files", "growth of files in the state folder"),
    ],
)
def test_what_grows_does_not_pass(field: str, what: str) -> None:
    grown = [sample(second, **{field: 100 + second // 20}) for second in range(0, MINUTES * 60, 2)]
    assert bad(soaked(samples=grown)) == [what]


def test_connections_that_come_and_go_are_no_growth() -> None:
    busy = [sample(second, descriptors=100 + second % 40) for second in range(0, MINUTES * 60, 2)]
    assert bad(soaked(samples=busy)) == []


def test_a_leak_in_the_workers_does_not_pass() -> None:
    leaking = [sample(second, 500_000_000 + second * 10_000) for second in range(0, MINUTES * 60, 2)]  # 36 MB an hour
    assert bad(soaked(samples=leaking)) == ["growth of all workers' memory"]


@pytest.mark.parametrize(("share", "found"), [(0.1, []), (0.3, ["growth of all workers' memory"])])
def test_a_short_soak_finds_coarse_leaks_only(share: float, found: list[str]) -> None:
    rising = [sample(second, round(500_000_000 * (1 + share * second / 120))) for second in range(0, 180, 2)]
    short = msgspec.structs.replace(
        soaked(samples=rising), minutes=3, answers=[answer(second) for second in range(180)]
    )
    assert bad(short) == found


def test_memory_that_is_reached_in_the_warm_up_is_no_leak() -> None:
    rising = [sample(second, 500_000_000 + min(290, second) * 1_000_000) for second in range(0, MINUTES * 60, 2)]
    assert bad(soaked(samples=rising)) == []


def test_a_worker_that_died_does_not_pass() -> None:
    restarted = [sample(second, pid=7 if second < 600 else 8) for second in range(0, MINUTES * 60, 2)]
    assert bad(soaked(samples=restarted)) == ["workers that died"]


def test_a_slower_end_is_a_verdict_on_time() -> None:
    slower = [answer(second, seconds=0.1 if second < 1000 else 0.2) for second in range(MINUTES * 60)]
    assert [verdict.timed for verdict in verdicts(soaked(slower)) if not verdict.good] == [True]


def test_tables_have_a_line_for_every_verdict_and_at_most_a_dozen_over_time() -> None:
    soak = soaked()
    lines = time_cells(soak)
    assert 8 <= len(lines) - 1 <= 12
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[1][1:5] == ["1", "100", "100", "500"]
    assert verdict_cells([Verdict("a", "b", False)])[1:] == [["a", "b", "**no**"]]


@pytest.mark.slow
def test_half_of_the_mixture_is_good_and_the_other_half_mostly_refused(hostile: list[Body]) -> None:
    mixed = mixture(good([photograph("chelsea.png")]), hostile)
    assert sum(body.name.startswith("good/") for body in mixed) == len(mixed) // 2
    assert {body.status for body in mixed} >= {200, 400, 415, 422}
    assert max(len(body.content) for body in mixed if not body.name.startswith("good/")) <= 1_000_000
