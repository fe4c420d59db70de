import argparse
import enum
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scripts.building.checkpoint import kind_of, read_checkpoint
from scripts.console import UserError


class Net(nn.Module):
    """A layer of each kind that state_dicts differ in."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.body(pictures).mean((2, 3)))
        return logits


class Phase(enum.Enum):
    TRAINING = 1


class Settings(dict[str, Any]):
    """A dictionary of a class of its own, as configurations are."""


class Touch:
    """Runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return Net().state_dict()


def saved(content: object, folder: Path, legacy: bool = False) -> Path:
    path = folder / "x.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def assert_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, item in expected.items():
        torch.testing.assert_close(found[name], item, rtol=0, atol=0)


# --- reading


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict_is_read_in_each_format_of_torch(tmp_path: Path, legacy: bool) -> None:
    found = read_checkpoint(saved(state(), tmp_path, legacy))
    assert list(found) == [""]
    assert_equal(found[""], state())


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "weights")
    found = read_checkpoint(tmp_path / "weights")[""]
    assert_equal({name: found[name] for name in state()}, state())  # the file has an order of its own


@pytest.mark.parametrize("legacy", [False, True])
def test_what_stands_beside_the_tensors_does_not_matter(tmp_path: Path, legacy: bool) -> None:
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(2, 3, 2, 2)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, phase=Phase.TRAINING),
        "best": np.float64(0.5),
        "history": np.zeros(3),
        "phases": {Phase.TRAINING: {1, 2}},
        "where": Path("data"),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "state_dict": model.state_dict(),
        "model": Settings(ema=OrderedDict(model.state_dict())),
        "parameters": dict(model.named_parameters()),
    }
    found = read_checkpoint(saved(content, tmp_path, legacy))
    assert {"", "state_dict", "model.ema", "parameters"} == set(found)  # of the first, only "random" is a tensor
    assert_equal(found["state_dict"], model.state_dict())
    assert_equal(found["model.ema"], model.state_dict())
    assert not any(item.requires_grad for item in found["parameters"].values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
@pytest.mark.parametrize("legacy", [False, True])
def test_every_precision_is_read(tmp_path: Path, dtype: torch.dtype, legacy: bool) -> None:
    weight = torch.tensor([0.5, 1.0, -2.0]).to(dtype)
    found = read_checkpoint(saved({"weight": weight}, tmp_path, legacy))[""]["weight"]
    assert found.dtype == dtype
    assert found.tolist() == [0.5, 1.0, -2.0]


def test_what_was_saved_on_a_gpu_is_read_on_the_processor(tmp_path: Path) -> None:
    path = saved({"weight": torch.ones(2)}, tmp_path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():  # X and a length stand before a string
            archive.writestr(name, content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:1"))
    assert b"cuda:1" in path.read_bytes()
    assert read_checkpoint(path)[""]["weight"].device.type == "cpu"


def test_a_checkpoint_may_hold_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {"weight": torch.ones(1)}
    content["self"] = content
    assert list(read_checkpoint(saved(content, tmp_path))) == [""]


# --- hostile files

_GLOBALS = [b"cos\nsystem\n", b"cposix\nsystem\n", b"cbuiltins\nexec\n", b"cbuiltins\neval\n", b"ctorch.hub\nload\n"]


@pytest.mark.parametrize("callee", _GLOBALS)
@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_runs(tmp_path: Path, callee: bytes, legacy: bool) -> None:
    mark = tmp_path / "mark"
    path = saved({"weight": torch.ones(1), "bad": Touch(mark)}, tmp_path, legacy)
    system = b"cposix\nsystem\n"
    if legacy:
        assert path.read_bytes().count(system) == 1
        path.write_bytes(path.read_bytes().replace(system, callee))
    else:
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content.replace(system, callee))
    assert read_checkpoint(path)[""]["weight"].item() == 1
    assert not mark.exists()


def in_zip(program: bytes, folder: Path) -> Path:
    """A checkpoint of torch with that pickle."""
    path = saved({}, folder)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, program if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize(
    "program",
    [
        # os.system by way of an attribute, and of getattr
        b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93\x8c\x0ctouch {mark}\x85R.",
        b"\x80\x02cbuiltins\ngetattr\ncos\nos\nX\x06\x00\x00\x00system\x86RX\x0c\x00\x00\x00touch {mark}\x85R.",
        # an attribute of torch's class, of a function, of an inert class
        b"\x80\x02ctorch.storage\nUntypedStorage\nN}X\x03\x00\x00\x00cpuK\x01s\x86b.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__K\x01s\x86b.",
        b"\x80\x02ca\nb\nN}X\x0c\x00\x00\x00dump_patchesK\x01s\x86b.",
        # a tensor of more than its storage has
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x009"
        b"X\x03\x00\x00\x00cpuK\x05tQK\x00K\x05\x85K\x01\x85\x89NtR.",
    ],
)
def test_nothing_outside_the_file_is_reached(tmp_path: Path, program: bytes) -> None:
    before = torch.UntypedStorage.cpu, torch._utils._rebuild_tensor_v2.__defaults__
    path = in_zip(program.replace(b"{mark}", b"marked"), tmp_path)
    with pytest.raises(UserError, match=r"no state_dict|damaged"):
        read_checkpoint(path)
    assert (torch.UntypedStorage.cpu, torch._utils._rebuild_tensor_v2.__defaults__) == before
    assert not Path("marked").exists()


def test_damage_is_said(tmp_path: Path) -> None:
    path = saved(state(), tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"x\.pt is no checkpoint that torch can read, or is damaged"):
        read_checkpoint(path)
    save_file(state(), path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="no whole file of safetensors"):
        read_checkpoint(path)


# --- other kinds of files


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("key", "index"), [(None, ""), ("model", "['model']")])
def test_a_pickled_module_is_refused_with_what_to_run(
    tmp_path: Path, key: str | None, index: str, legacy: bool
) -> None:
    path = saved(Net() if key is None else {key: Net()}, tmp_path, legacy)
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert f'\n    model = torch.load("x.pt", weights_only=False){index}\n' in str(error.value)
    assert '\n    torch.save(model.state_dict(), "x-weights.pth")\n' in str(error.value)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_programs_are_not_weights(tmp_path: Path) -> None:
    example = (torch.zeros(2, 3, 2, 2),)
    path = tmp_path / "program"
    torch.jit.trace(Net().eval(), example).save(path)
    assert kind_of(path) == "torchscript"
    with pytest.raises(UserError, match="is a TorchScript program, not weights; `make adopt FROM="):
        read_checkpoint(path)
    path = path.with_suffix(".pt2")
    torch.export.save(torch.export.export(Net().eval(), example), path)
    with pytest.raises(UserError, match=r"is a program of torch\.export"):
        read_checkpoint(path)
    path.write_bytes(b"\x08\x0a\x12\x07pytorch")
    with pytest.raises(UserError, match="is an ONNX model"):
        read_checkpoint(path)


def test_an_archive_is_not_weights(tmp_path: Path) -> None:
    path = tmp_path / "x.mar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", "{}")
    with pytest.raises(UserError, match="is an archive of TorchServe"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [{}, {"epoch": 1}, [1, 2], torch.ones(2)])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(UserError, match="has no state_dict"):
        read_checkpoint(saved(content, tmp_path))


def odd_tensors() -> dict[str, Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
            "b": torch.eye(3).to_sparse(),
            "c": torch.eye(3).to_sparse_csr(),
            "d": torch.ones(3, device="meta"),
        }


KINDS = {"a": "quantised", "b": "sparse", "c": "sparse", "d": "without values (on the device meta)"}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", list(KINDS))
def test_tensors_of_other_kinds_are_named_with_their_kind(
    tmp_path: Path, name: str, legacy: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    item = odd_tensors()[name]
    with pytest.raises(UserError) as caught:
        read_checkpoint(saved({"model": {"fc.weight": item}}, tmp_path, legacy))
    assert (
        f"no state_dict, a dictionary of tensors by name; 1 tensors cannot be used: model.fc.weight is {KINDS[name]}"
        in str(caught.value)
    )
    capsys.readouterr()
    found = read_checkpoint(saved({"fc.weight": nn.Parameter(item, False), "fc.bias": torch.ones(2)}, tmp_path, legacy))
    assert list(found[""]) == ["fc.bias"]
    said = " ".join(capsys.readouterr().err.split())
    assert f"x.pt: 1 tensors cannot be used: fc.weight is {KINDS[name]}" in said


def test_of_many_tensors_of_other_kinds_the_first_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"4 tensors cannot be used: a is quantised, b is sparse, c is sparse, and 1 more"
    ):
        read_checkpoint(saved(odd_tensors(), tmp_path))


def test_any_other_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"hello, world", pickle.dumps({"a": 1})):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(UserError, match="no checkpoint that torch can read"):
            read_checkpoint(tmp_path / "x")


def test_a_single_byte_and_a_damaged_directory_are_no_tracebacks(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\x08")
    assert kind_of(path) == "checkpoint"
    content = bytearray(saved(state(), tmp_path).read_bytes())
    content[content.index(b"PK\x01\x02")] = 0
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged: .*; copy it anew"):
        kind_of(path)
