"""Files of weights that carry more than weights: nothing runs, at the build or in an archive with right digests."""

import pickle
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from classifier.digests import verify, write_digests
from classifier.errors import UnusableError
from classifier.pipeline import Classifier
from msgspec.structs import replace
from onnx.external_data_helper import set_external_data

from scripts.building.build import build
from scripts.building.options import Options
from scripts.console import UserError

Plant = Callable[[Path, Path], None]


class Code:
    """Unpickled, it runs a program."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[list[str]]]:
        return subprocess.check_call, (["touch", str(self.trace)],)


def saved_by_torch(path: Path, trace: Path) -> None:
    torch.save({"conv.weight": Code(trace)}, path)


def saved_by_old_torch(path: Path, trace: Path) -> None:
    torch.save({"conv.weight": Code(trace)}, path, _use_new_zipfile_serialization=False)


def pickled(path: Path, trace: Path) -> None:
    path.write_bytes(pickle.dumps(Code(trace)))


every_pickle = pytest.mark.parametrize("plant", [saved_by_torch, saved_by_old_torch, pickled])


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def test_the_code_would_run_if_anybody_unpickled_it(trace: Path, tmp_path: Path) -> None:
    pickled(tmp_path / "evil.pth", trace)
    with (tmp_path / "evil.pth").open("rb") as file:
        pickle.load(file)  # noqa: S301 - the point
    assert trace.exists()


@every_pickle
def test_the_users_own_weights_are_not_run_at_the_build(
    plant: Plant, trace: Path, options: Options, tmp_path: Path
) -> None:
    plant(tmp_path / "evil.pth", trace)
    with pytest.raises(UserError, match=r"evil\.pth (has no state_dict|is no checkpoint that torch can read)"):
        build(replace(options, weights=str(tmp_path / "evil.pth")))
    assert not trace.exists()
    assert not list(options.store.glob("tiny*"))


def changed(archive: Path, target: Path, change: Callable[[Path], None]) -> Path:
    """An unpacked archive that somebody changed, with its digests made right again."""
    shutil.copytree(archive, target, ignore=shutil.ignore_patterns("__pycache__"))
    change(target)
    (target / "digests.json").unlink()
    write_digests(target)
    verify(target)
    return target


@every_pickle
def test_weights_in_an_archive_are_not_run(plant: Plant, trace: Path, tiny_folder: Path, tmp_path: Path) -> None:
    folder = changed(tiny_folder, tmp_path / "evil", lambda folder: plant(folder / "tiny.pth", trace))
    with pytest.raises(UnusableError, match=r"tiny\.pth is not a file of weights"):
        Classifier.load(folder)
    assert not trace.exists()


def rewrite(path: Path, name: str, content: bytes | None) -> None:
    """A TorchScript file with one of its records replaced, or none."""
    with zipfile.ZipFile(path) as source:
        records = {info.filename: source.read(info) for info in source.infolist()}
    (found,) = [record for record in records if record.endswith(f"/{name}")]
    if content is not None:
        records[found] = content
    with zipfile.ZipFile(path, "w") as target:
        for record, data in records.items():
            target.writestr(record, data)


def test_a_pickle_in_torchscript_is_read_by_a_reader_that_knows_no_python(
    trace: Path, tiny_archive: Callable[..., Path], tmp_path: Path
) -> None:
    """torch.jit.load has a reader of pickles of its own, in C++: it knows tensors and TorchScript's classes."""
    built = tiny_archive("torchscript", "no-archive")
    same = changed(built, tmp_path / "same", lambda folder: rewrite(folder / "tiny.pt", "data.pkl", None))
    Classifier.load(same)
    evil = pickle.dumps(Code(trace), protocol=2)
    folder = changed(built, tmp_path / "evil", lambda folder: rewrite(folder / "tiny.pt", "data.pkl", evil))
    with pytest.raises(UnusableError, match=r"tiny\.pt is not a TorchScript file"):
        Classifier.load(folder)
    assert not trace.exists()


@pytest.mark.slow
@pytest.mark.parametrize("absolute", [True, False])
def test_an_onnx_file_takes_its_weights_from_nowhere_else(
    absolute: bool, tiny_archive: Callable[..., Path], tmp_path: Path
) -> None:
    """ONNX may name other files for its weights; ONNX Runtime follows none out of the model's folder."""
    outside = tmp_path / "outside.bin"

    def point(folder: Path, location: str) -> None:
        model = onnx.load(folder / "tiny.onnx")
        weight = max(model.graph.initializer, key=lambda item: len(item.raw_data))
        (folder / location).write_bytes(weight.raw_data)
        set_external_data(weight, location, 0, len(weight.raw_data))
        weight.ClearField("raw_data")
        (folder / "tiny.onnx").write_bytes(model.SerializeToString())

    built = tiny_archive("onnxruntime", "no-archive")
    Classifier.load(changed(built, tmp_path / "inside", lambda folder: point(folder, "inside.bin")))
    location = str(outside) if absolute else "../outside.bin"
    folder = changed(built, tmp_path / "evil", lambda folder: point(folder, location))
    assert outside.exists()
    with pytest.raises(UnusableError, match=r"External data path"):
        Classifier.load(folder)
