import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from classifier.digests import verify
from classifier.identity import RECIPE_FILE
from classifier.recipe import Serving, read_recipe
from msgspec.structs import replace

from scripts.admission.manifest import check_manifest
from scripts.archives.format import Format
from scripts.archives.loaded import unpacked
from scripts.archives.store import Archive, read_archive_identity
from scripts.building.build import build
from scripts.building.options import Options
from scripts.building.overlay import Overlay, Tuned, read_overlay, repack, write_overlay
from scripts.building.record import content_digest
from scripts.building.release import release
from scripts.console import UserError
from tests.conftest import TINY_RECIPE

SERVING = Tuned(workers=2, threads=1, batch_size=3, max_batch_delay_ms=5)
OVERLAY = Overlay(model="tiny", runtime="eager", precision="float32", serving=SERVING, found="12 pictures/s")


@pytest.fixture
def options(tmp_path: Path, tiny_weights: Path, golden: Path) -> Options:
    return Options(
        recipe=TINY_RECIPE,
        weights=str(tiny_weights),
        golden=golden,
        store=tmp_path / "store",
        cache=tmp_path,
        tuned=tmp_path / "tuned",
    )


def as_tuned(serving: Serving) -> Tuned:
    return Tuned(**{name: getattr(serving, name) for name in Tuned.__struct_fields__})


def serving_of(archive: Path) -> Tuned:
    with unpacked(archive) as folder:
        return as_tuned(read_recipe(folder / RECIPE_FILE).serving)


def test_an_overlay_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_overlay(OVERLAY, tmp_path)
    assert read_overlay("tiny", tmp_path) == OVERLAY


def test_a_model_that_was_not_tuned_has_none(tmp_path: Path) -> None:
    assert read_overlay("tiny", tmp_path) is None


@pytest.mark.parametrize("text", ["", "model: tiny", "{", "[]"])
def test_an_overlay_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tiny.yaml").write_text(text)
    with pytest.raises(UserError, match=r"(?s)tiny\.yaml.*make tune"):
        read_overlay("tiny", tmp_path)


@pytest.mark.slow
def test_an_archive_is_built_with_what_its_recipe_says_for_it_alone(options: Options, tmp_path: Path) -> None:
    recipe = yaml.safe_load(TINY_RECIPE.read_text())
    recipe["archives"][0]["serving"] = {"workers": 3, "threads": "all"}
    own = tmp_path / "tiny.yaml"
    own.write_text(yaml.safe_dump(recipe))
    (tmp_path / "labels.json").write_bytes((TINY_RECIPE.parent / "labels.json").read_bytes())
    path, _ = build(replace(options, recipe=own))
    assert serving_of(path) == replace(as_tuned(read_recipe(TINY_RECIPE).serving), workers=3, threads="all")
    with unpacked(path) as folder:
        assert "minWorkers: 3" in (folder / "model-config.yaml").read_text()


@pytest.mark.slow
def test_an_archive_is_built_with_the_settings_of_its_overlay(options: Options) -> None:
    write_overlay(OVERLAY, options.tuned)
    path, _ = build(options)
    assert serving_of(path) == SERVING
    with unpacked(path) as folder:
        settings = (folder / "model-config.yaml").read_text()
    assert "minWorkers: 2" in settings
    assert "batchSize: 3" in settings
    assert "maxBatchDelay: 5" in settings


@pytest.mark.slow
@pytest.mark.parametrize("other", [{"runtime": "torchscript"}, {"precision": "bfloat16"}])
def test_an_overlay_changes_no_other_archive_of_its_model(options: Options, other: dict[str, str]) -> None:
    untouched, _ = build(options)
    before = untouched.read_bytes()
    write_overlay(replace(OVERLAY, **other), options.tuned)
    build(options)
    assert untouched.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("archive_format", ["zip-store", "tgz", "no-archive"])
def test_an_archive_in_other_settings_is_a_version_of_its_own_as_a_build_would_give_it(
    options: Options, archive_format: Format
) -> None:
    path, _ = build(replace(options, archive_format=archive_format))
    before = content_digest(path)
    tuned = repack(Archive(path, read_archive_identity(path)), SERVING, "1.0.1", options.store)
    assert content_digest(path) == before
    verify(tuned)
    assert serving_of(tuned) == SERVING
    write_overlay(OVERLAY, options.tuned)
    again = replace(options, archive_format=archive_format, version="1.0.1", store=options.store / "again")
    built, _ = build(again)
    assert tuned.name == built.name
    assert content_digest(tuned) == content_digest(built)
    check_manifest(tuned)
    assert [item.name for item in path.parent.iterdir() if item.name.startswith(".")] == []


def test_make_archive_knows_what_tune_has_made(options: Options) -> None:
    """The next version that would be built is the tuned one, which is there already."""
    path, _ = release(options)
    tuned = repack(Archive(path, read_archive_identity(path)), SERVING, "1.0.1", options.store)
    write_overlay(OVERLAY, options.tuned)
    assert release(replace(options, version="next")) == (tuned, None)


def test_a_broken_archive_is_not_taken(tiny_archive: Callable[[str, Format], Path], tmp_path: Path) -> None:
    path = tmp_path / "tiny-eager-1.0.mar"
    shutil.copy(tiny_archive("eager", "zip-store"), path)
    identity = read_archive_identity(path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="make archive"):
        repack(Archive(path, identity), SERVING, "1.0.1", tmp_path)
    assert list(tmp_path.iterdir()) == [path]
