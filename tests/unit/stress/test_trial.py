"""What a model of three classes is tried with: its own answers, within its own limits."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from PIL import Image

from scripts.archives.loaded import loaded
from scripts.archives.store import find_archive
from scripts.console import UserError
from scripts.torchserve.client import Client
from stress.questions import Body, answered, good, known
from stress.trial import archives_to_try, friendly_bodies, served_archive, trial
from tests.unit.conftest import Answer, FakeTorchServe, described


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A red picture, a blue one, and a file that is no picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in (("red", (230, 20, 20)), ("blue", (20, 20, 230))):
        Image.new("RGB", (60, 40), colour).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_good_bodies_are_pictures_in_several_sizes_with_the_models_own_answers(
    few_archive: Callable[..., Path], pictures: Path
) -> None:
    bodies = friendly_bodies(find_archive(str(few_archive()), pictures), pictures)
    assert {body.name for body in bodies} == {
        f"good/{name}.png{size}" for name in ("red", "blue") for size in ("", "-400", "-1100")
    }
    for body in bodies:
        assert body.answer is not None
        assert list(body.answer.classes) == ["rose Röschen" if "red" in body.name else "iris 菖蒲"]


def test_another_pictures_answer_is_not_deserved_though_the_class_is_the_same(
    few_archive: Callable[..., Path], pictures: Path
) -> None:
    Image.new("RGB", (60, 40), (150, 90, 90)).save(pictures / "reddish.png")
    bodies = {body.name: body for body in friendly_bodies(find_archive(str(few_archive()), pictures), pictures)}
    red, reddish = bodies["good/red.png"], bodies["good/reddish.png"]
    assert red.answer is not None
    assert reddish.answer is not None
    (label,), (same,) = red.answer.classes, reddish.answer.classes
    assert label == same
    assert red.deserves(200, "", label, red.answer.classes[label])
    assert not red.deserves(200, "", label, reddish.answer.classes[label])


@pytest.mark.slow
def test_the_hostile_bodies_follow_the_recipe_and_have_the_models_own_answers(
    few_archive: Callable[..., Path], pictures: Path
) -> None:
    hostile = {body.name: body for body in trial(find_archive(str(few_archive()), pictures), pictures).hostile}
    assert hostile["largest/png-transparent"].status == 413  # 64 million pixels, and the recipe allows two
    assert hostile["json/too-many-instances"].content.count(b"b64") == 4  # the recipe allows three
    seen = [body.answer for body in hostile.values() if body.name.startswith("exif/")]
    assert len(seen) == 16
    first = hostile["exif/png-1"].answer
    assert first is not None
    assert all(answer is not None and answer.classes.keys() == first.classes.keys() for answer in seen)
    assert hostile["typed/image/png"].answer is not None
    assert hostile["named/picture.txt"].answer == hostile["typed/image/png"].answer
    assert {body.answer for body in hostile.values() if body.status != 200} == {None}


def test_without_a_picture_that_the_model_answers_there_is_no_trial(few_archive: Callable[..., Path]) -> None:
    with loaded(few_archive()) as classifier:
        bodies = known(classifier, [Body("good/notes.txt", b"no picture", 200)])
    with pytest.raises(UserError, match="answers none of 1 pictures"):
        answered(bodies)


def test_pictures_beyond_the_recipes_limit_are_not_sent_as_good_ones(
    few_archive: Callable[..., Path], pictures: Path
) -> None:
    Image.new("RGB", (300, 10), (230, 20, 20)).save(pictures / "wide.png")  # 33,000 x 1,100 as the larger JPEG
    with loaded(few_archive()) as classifier:
        found = answered(known(classifier, good([pictures / "wide.png"])))
    assert [body.name for body in found] == ["good/wide.png"]


def store_with(folder: Path, *archives: Path) -> Path:
    folder.mkdir()
    for path in archives:
        shutil.copy(path, folder)
    return folder


def test_the_versions_to_try_are_those_of_the_store(few_archive: Callable[..., Path], tmp_path: Path) -> None:
    eager, torchscript = few_archive("eager"), few_archive("torchscript")
    store = store_with(tmp_path / "store", eager, torchscript)
    (store / "broken-eager.mar").write_bytes(b"broken")
    assert [item.identity.model.version for item in archives_to_try("few", store, 2)] == ["2.0", "1.0"]
    with pytest.raises(UserError, match=r"takes 2 versions of few, and .* has 1; `make archives MODEL=few`"):
        archives_to_try("few", store_with(tmp_path / "one", eager), 2)


def test_a_running_server_is_tried_with_the_archive_of_its_default_version(
    torchserve: FakeTorchServe, few_archive: Callable[..., Path], tmp_path: Path
) -> None:
    store = store_with(tmp_path / "store", few_archive("eager"))
    said = described("1.0", "READY", model="few") | {"modelUrl": "few-eager-1.0.mar"}
    torchserve.answers["GET /models/few"] = [Answer([said]), Answer([said | {"modelVersion": "7.0"}])]
    client = Client(torchserve.addresses)
    assert served_archive(client, "few", store).path == store / "few-eager-1.0.mar"
    with pytest.raises(UserError, match=r"is version 1\.0, but the server answers with 7\.0; pass STORE="):
        served_archive(client, "few", store)


def test_an_expected_answer_of_a_body_that_must_be_refused_is_none(few_archive: Callable[..., Path]) -> None:
    refused = Body("stranger/text", b"a cat", 415, "not_an_image")
    with loaded(few_archive()) as classifier:
        assert known(classifier, [refused, replace(refused, name="json", content=b"{}", status=200)]) == [
            refused,
            replace(refused, name="json", content=b"{}", status=200),
        ]
