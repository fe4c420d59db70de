import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import yaml
from classifier.digests import verify
from classifier.identity import UNTRAINED, Identity, Model
from classifier.recipe import read_recipe
from msgspec.structs import replace
from tiny_net import TinyNet

from scripts.archives.format import Format
from scripts.archives.store import sbom_of
from scripts.building import release
from scripts.building.alone import outputs_alone
from scripts.building.build import build
from scripts.building.gate import Report
from scripts.building.golden import calibration_pixels, golden_pixels, golden_set
from scripts.building.options import Options
from scripts.building.stage import source_file
from scripts.console import UserError
from tests.conftest import THIRD_MODEL, TINY_RECIPE, path_of
from tests.unit.conftest import command, contents, start

FORMATS: tuple[Format, ...] = ("zip-store", "tgz", "no-archive")
EVERYWHERE = {  # what the archives of all runtimes hold, the core's modules apart
    "MAR-INF/MANIFEST.json", "digests.json", "identity.json", "image_classifier_handler.py", "labels.json",
    "model-config.yaml", "parity.json", "recipe.yaml",
}  # fmt: skip

# tiny.yaml's `serving`, as TorchServe calls it
FRONT_END = {
    "minWorkers": 2, "maxWorkers": 2, "batchSize": 4, "maxBatchDelay": 1, "responseTimeout": 120, "startupTimeout": 300,
}  # fmt: skip


def changed_recipe(folder: Path, **changes: object) -> Path:
    """A copy of tiny's recipe with some fields changed, its labels beside it."""
    shutil.copy(THIRD_MODEL / "labels.json", folder)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(TINY_RECIPE.read_text()) | changes))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "precision", "version", "own_files"),
    [
        ("eager", "float32", "1.0", {"tiny.pth", "tiny_net.py"}),
        ("eager", "float16", "1.2", {"tiny.pth", "tiny_net.py"}),
        ("torchscript", "float32", "2.0", {"tiny.pt"}),
        ("onnxruntime", "float32", "4.0", {"tiny.onnx", "tiny.onnx.data"}),
        ("openvino", "float32", "5.0", {"tiny.xml", "tiny.bin"}),
        ("openvino", "int8", "5.2", {"tiny.xml", "tiny.bin"}),
        ("ncnn", "float32", "6.0", {"tiny.param", "tiny.bin"}),
    ],
)
def test_one_recipe_and_one_module_are_enough(
    runtime: str, precision: str, version: str, own_files: set[str], options: Options, tiny_weights: Path
) -> None:
    path, report = build(replace(options, runtime=runtime, precision=precision))
    assert path == path_of(replace(options, runtime=runtime, precision=precision))
    assert set(options.store.iterdir()) == {path, sbom_of(path)}
    verify(path)
    files = contents(path)
    assert {name for name in files if not name.startswith("classifier/")} == EVERYWHERE | own_files
    identity = msgspec.json.decode(files["identity.json"], type=Identity)
    assert identity.model == msgspec.convert(
        {"name": "tiny", "version": version, "runtime": runtime, "precision": precision, "weights": "tiny-trained"},
        Model,
    )
    assert identity.weights_sha256 == hashlib.sha256(tiny_weights.read_bytes()).hexdigest()
    assert msgspec.json.decode(files["parity.json"], type=Report) == report
    assert (report.pictures, report.failures(), report.weights_sha256) == (2, [], identity.weights_sha256)
    assert report.calibration_pictures == (20 if precision == "int8" else None)  # ten views of each golden picture
    assert yaml.safe_load(files["model-config.yaml"]) == FRONT_END


def test_the_core_goes_in_as_source_and_nothing_else(options: Options) -> None:
    path, _ = build(options)
    root = source_file("classifier").parents[1]
    expected = {str(file.relative_to(root)): file.read_bytes() for file in root.glob("classifier/**/*.py")}
    assert {name: data for name, data in contents(path).items() if name.startswith("classifier/")} == expected


def test_a_version_can_be_chosen(options: Options) -> None:
    files = contents(build(replace(options, version="7.1"))[0])
    assert json.loads(files["identity.json"])["model"]["version"] == "7.1"
    assert json.loads(files["MAR-INF/MANIFEST.json"])["model"]["modelVersion"] == "7.1"


@pytest.mark.slow
def test_weights_that_nobody_trained_are_called_so(
    options: Options, refusing_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = changed_recipe(tmp_path, weights=f"{refusing_address}/tiny-0123abcd.pth")
    path, _ = build(replace(options, recipe=recipe, weights="auto"))
    assert json.loads(contents(path)["identity.json"])["model"]["weights"] == UNTRAINED
    assert "UNTRAINED WEIGHTS" in capsys.readouterr().err


def test_int8_chooses_its_scales_on_views_of_the_golden_set(options: Options, golden: Path) -> None:
    recipe, pictures = read_recipe(TINY_RECIPE), golden_set(golden)
    pixels = calibration_pixels(None, recipe, pictures)
    assert (pixels.shape, pixels.dtype) == ((20, 32, 32, 3), np.dtype(np.uint8))
    assert len({item.tobytes() for item in pixels}) == 20
    assert np.array_equal(pixels, calibration_pixels(None, recipe, pictures))
    assert not {item.tobytes() for item in pixels} & {item.tobytes() for item in golden_pixels(pictures, recipe)}


@pytest.mark.slow
def test_int8_chooses_its_scales_on_the_pictures_of_a_folder_of_ones_own(
    options: Options, golden: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(golden / "coffee.png", folder)
    recipe = read_recipe(TINY_RECIPE)
    pixels = calibration_pixels(folder, recipe, golden_set(golden))
    assert np.array_equal(pixels, golden_pixels([folder / "coffee.png"], recipe))
    _, report = build(replace(options, runtime="openvino", precision="int8", calibration=folder))
    assert (report.pictures, report.calibration_pictures) == (2, 1)


@pytest.mark.parametrize("content", [None, b"not a picture"], ids=["no pictures", "not a picture"])
def test_a_folder_for_calibration_that_cannot_be_used_is_named(
    content: bytes | None, options: Options, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    if content is not None:
        (folder / "notes.txt").write_bytes(content)
    message = f"CALIBRATION={folder}: no pictures" if content is None else rf"{folder}/notes\.txt: none of JPEG"
    with pytest.raises(UserError, match=message):
        build(replace(options, runtime="openvino", precision="int8", calibration=folder))
    assert list(options.store.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "precision"), [("eager", "float32"), ("openvino", "float32")])
def test_only_int8_looks_at_pictures_for_calibration(
    runtime: str, precision: str, options: Options, tmp_path: Path
) -> None:
    _, report = build(replace(options, runtime=runtime, precision=precision, calibration=tmp_path / "missing"))
    assert report.calibration_pictures is None


@pytest.mark.slow
@pytest.mark.parametrize("archive_format", FORMATS)
def test_a_second_build_takes_the_place_of_the_first(archive_format: Format, options: Options, tmp_path: Path) -> None:
    retrained = tmp_path / "retrained.pth"
    torch.save(TinyNet().state_dict(), retrained)
    for weights in (options.weights, str(retrained)):
        path, _ = build(replace(options, weights=weights, archive_format=archive_format))
    assert json.loads(contents(path)["identity.json"])["model"]["weights"] == "retrained"
    assert set(options.store.iterdir()) == {path, sbom_of(path)}


def test_an_export_that_computes_something_else_is_not_built(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.building.stage.outputs_alone", lambda *given: outputs_alone(*given) + 0.01)
    with pytest.raises(UserError, match=r"max \|Δlogit\| is 0.01, allowed is 1e-05"):
        build(options)
    assert list(options.store.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": "nine.json"}, "9 labels for 10 logits"),
        ({"labels": "missing.json"}, "missing.json: No such file"),
        ({"architecture": "not_there"}, "there is no handlers/not_there.py"),
        ({"archives": [{"runtime": "torchscript", "version": "2.0", "tolerance": {"max_abs_logit": 1}}]}, "it has"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused_and_leaves_nothing(
    changes: dict[str, object], message: str, options: Options, tmp_path: Path
) -> None:
    recipe = changed_recipe(tmp_path, **changes)
    (tmp_path / "nine.json").write_text(json.dumps(json.loads((THIRD_MODEL / "labels.json").read_text())[:9]))
    with pytest.raises(UserError, match=message):
        build(replace(options, recipe=recipe))
    assert not options.store.exists() or list(options.store.iterdir()) == []


@pytest.mark.parametrize(("setting", "value"), [("precision", "int4"), ("runtime", "abacus")])
def test_what_the_recipe_does_not_offer_is_refused_with_what_it_does(
    setting: str, value: str, options: Options
) -> None:
    with pytest.raises(UserError, match=f"{value}.*it has: eager float32, torchscript float32"):
        build(msgspec.convert(msgspec.structs.asdict(options) | {setting: value}, Options))


def test_a_recipe_that_is_not_there_is_named(options: Options, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nope\.yaml: No such file"):
        build(replace(options, recipe=tmp_path / "nope.yaml"))


@pytest.mark.parametrize(
    "saved",
    [b"weights? no", [1, 2], {"classifier.bias": 1}, {"classifier.bias": torch.zeros(10)}, TinyNet()],
    ids=["no weights", "a list", "numbers", "a part", "a module"],
)
def test_own_weights_that_are_no_state_dict_of_this_model_are_refused_by_name(
    saved: object, options: Options, tmp_path: Path
) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(saved) if isinstance(saved, bytes) else torch.save(saved, path)
    with pytest.raises(UserError, match=r"mine\.pth"):
        build(replace(options, weights=str(path)))
    assert list(options.store.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_leaves_nothing_behind(by: signal.Signals, code: int, options: Options) -> None:
    process = start(command(options), hash_seed="0")
    deadline = time.monotonic() + 60
    while not list(options.store.glob(".building-*/extra")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(by)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert [path.name for path in options.store.iterdir()] == [".tiny.lock"]  # which the next build locks again


def test_an_interrupt_while_the_libraries_are_imported_is_quiet(options: Options) -> None:
    process = start(command(options), hash_seed="0")
    time.sleep(0.5)  # torch alone takes two seconds
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in said + errors
    assert not options.store.exists()


def test_a_folder_that_is_no_archive_is_not_replaced(options: Options) -> None:
    precious = options.store / "tiny-eager-1.0.mar" / "precious"
    precious.parent.mkdir(parents=True)
    precious.touch()
    with pytest.raises(UserError, match=r"tiny-eager-1\.0\.mar is a folder, but not an archive"):
        build(options)
    assert precious.exists()


@pytest.mark.parametrize("name", ["os", "sys", "nothing_there"])
def test_an_architecture_without_a_file_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"there is no module {name} in handlers/"):
        source_file(name)


LOAD_ELSEWHERE = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from image_classifier_handler import ImageClassifierHandler
from classifier.own_code import name_in_archive
handler = ImageClassifierHandler()
handler.initialize(SimpleNamespace(system_properties={"model_dir": sys.argv[1]}, model_name="tiny"))
(best, *_), = handler.classifier.classify([Path(sys.argv[2]).read_bytes()], [1])
ours = ("classifier", "image_classifier_handler", "tiny_net")
modules = {name_in_archive(name): module for name, module in sys.modules.items()}
print(json.dumps({name: module.__file__ for name, module in modules.items() if name.split(".")[0] in ours}))
"""


@pytest.mark.slow
def test_an_unpacked_archive_needs_nothing_of_this_project(options: Options, golden: Path, tmp_path: Path) -> None:
    path, _ = build(replace(options, archive_format="no-archive"))
    unpacked = Path(shutil.move(path, tmp_path / "unpacked"))
    result = subprocess.run(
        [sys.executable, "-c", LOAD_ELSEWHERE, str(unpacked), str(golden / "coffee.png")],
        cwd=options.store,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    loaded = json.loads(result.stdout)
    assert {"classifier.pipeline", "classifier.runtimes.eager", "image_classifier_handler", "tiny_net"} <= loaded.keys()
    assert [name for name, file in loaded.items() if not Path(file).is_relative_to(unpacked)] == []


def test_options_survive_the_way_to_the_process_that_builds() -> None:
    chosen = Options(
        recipe=Path("a recipe's.yaml"), runtime="torchscript", weights="w.pth", version="3.1", archive_format="tgz",
        torchscript="script", golden=Path("g"), calibration=Path("k"), store=Path("s"), cache=Path("c"),
    )  # fmt: skip
    for options in (chosen, Options(recipe=Path("r.yaml"))):
        assert Options.read(options.json().decode()) == options


@pytest.mark.parametrize("archive_format", ["zip-store", "no-archive"])
def test_the_program_says_what_it_built(
    archive_format: Format, options: Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", command(replace(options, archive_format=archive_format))[2:])
    release.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert str(path_of(replace(options, archive_format=archive_format))) in last
    assert "top-1 100%" in last
