"""A model of three classes, with names in several alphabets, through the verbs that measure and try a model."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.archives.store import find_archive
from scripts.console import UserError
from scripts.torchserve.server import Server
from stress import withstand as withstand_verb
from stress.faults.scenarios import one_of_two_workers_killed
from stress.faults.stand import Stand
from stress.questions import Body
from stress.soak.__main__ import soak_archive
from stress.trial import trial
from stress.withstand import withstand
from tests.integration.conftest import make, serving

FOLDER = Path("tests/third_model")
HOSTILE = 12  # every twelfth


def make_few(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make with the module of the model where a user would have it, on the path of imports."""
    return make(*arguments, environment={"PYTHONPATH": str(FOLDER)})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, few_weights: Path) -> Path:
    """Its archives, built as a user builds them."""
    folder = tmp_path_factory.mktemp("few") / "store"
    where = ("MODEL=few", f"RECIPES={FOLDER}", f"WEIGHTS={few_weights}", f"STORE={folder}")
    built = make_few("archive", *where)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, flowers: Path) -> Path:
    """One picture of each class in one folder, as GOLDEN names it."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, inside in enumerate(sorted(flowers.iterdir())):
        shutil.copy(inside / "0.png", folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def running(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    state = tmp_path_factory.mktemp("few-state")
    with serving(state, "few", store=store) as server:
        yield server, state


def test_its_accuracy_is_measured_by_folders_named_in_its_own_alphabets(store: Path, flowers: Path) -> None:
    measured = make_few("evaluate", f"DATA={flowers}", "MODEL=few", f"STORE={store}")
    assert measured.returncode == 0, measured.stderr
    rows = [line for line in measured.stdout.splitlines() if "%" in line]
    assert [re.findall(r"[0-9.]+%", row) for row in rows] == [["100.00%", "100.00%"]] * 2  # top-1 and agreement
    assert "left out" not in measured.stderr


def test_it_withstands_hostile_pictures_among_its_own(
    running: tuple[Server, Path], store: Path, pictures: Path
) -> None:
    server, _ = running
    bodies = trial(find_archive("few", store), pictures)
    expected = {name for body in bodies.friendly if body.answer for name in body.answer.classes}
    assert expected == {"rose Röschen", "fern Fougère", "iris 菖蒲"}
    report = withstand(server, "few", bodies.hostile[::HOSTILE], bodies.friendly)
    assert report.differences() == []
    assert sum(answer.body.answer is not None for answer in report.answers) > len(report.answers) / 4


def test_a_server_that_answers_otherwise_than_its_archive_does_not_withstand(
    running: tuple[Server, Path], store: Path, pictures: Path
) -> None:
    """The pictures' expectations are exchanged: what a server that mixes up its clients would do."""
    server, _ = running
    first, *others = trial(find_archive("few", store), pictures).friendly
    exchanged = [Body(first.name, body.content, 200, answer=first.answer) for body in others]
    found = withstand(server, "few", [], [*exchanged, first])
    assert found.answers == []  # good ones are sent among hostile ones only
    found = withstand(server, "few", exchanged, [first])
    assert len(found.differences()) > len(exchanged)


@pytest.mark.thorough
def test_make_withstand_takes_all_it_needs_from_the_server_and_the_store(
    running: tuple[Server, Path], store: Path, pictures: Path, tmp_path: Path
) -> None:
    _, state = running
    said = make_few("withstand", f"STATE={state}", f"STORE={store}", f"GOLDEN={pictures}")
    assert said.returncode == 0, said.stderr
    assert "answers as documented" in said.stdout
    with pytest.raises(UserError, match="no archive few-eager"):
        withstand_verb.main(state=state, store=tmp_path, rounds=1)


@pytest.mark.thorough
def test_a_short_soak_of_it_is_answered_as_the_contract_says(store: Path, pictures: Path) -> None:
    measured = soak_archive(find_archive("few", store), 0.2, pictures)
    assert [answer for answer in measured.answers if not answer.kept] == []


@pytest.mark.thorough
def test_nobody_gets_anothers_answer_when_a_worker_of_it_is_killed(store: Path, pictures: Path, tmp_path: Path) -> None:
    with Stand(find_archive("few", store), tmp_path / "stand", pictures).running() as stand:
        run = one_of_two_workers_killed(stand)
    assert [answer for answer in run.answers if answer.wrong] == []
    assert sum(answer.kept for answer in run.answers) > 0


@pytest.mark.thorough
@pytest.mark.parametrize("verb", ["parity", "prune"])
def test_it_is_measured_with_the_users_own_pictures(verb: str, store: Path, pictures: Path, tmp_path: Path) -> None:
    if verb == "parity":
        said = make_few(verb, "MODEL=few", f"STORE={store}", f"GOLDEN={pictures}")
        assert said.returncode == 0, said.stderr
        assert "120 views" in " ".join(said.stdout.split())
    else:
        from scripts.measuring.prune import prune_model

        shares = prune_model("few", store, tmp_path, (0.0, 0.5), pictures)
        assert shares[0].agreement == 1.0


@pytest.mark.thorough
def test_bench_measures_it_and_says_why_there_is_nothing_to_compare_with(
    store: Path, pictures: Path, tmp_path: Path
) -> None:
    said = make_few(
        "bench", "MODELS=few", "QUICK=1", f"STORE={store}", f"GOLDEN={pictures}", f"OUTPUT={tmp_path / 'results'}"
    )
    assert said.returncode == 0, said.stderr
    assert (
        "few has no counterpart in TorchServe's own handler: it gives every model pictures of 224 x 224" in said.stdout
    )
