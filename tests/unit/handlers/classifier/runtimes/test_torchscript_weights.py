import io
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from classifier.runtimes.torchscript_weights import _Reader, map_weights
from torch import Tensor, nn
from torch.jit import ScriptModule

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # the tests call torch.jit themselves


class Net(nn.Module):
    """Has what modules have: layers in layers, a buffer, weights that two layers share, one laid out otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.turned = nn.Parameter(torch.rand(4, 8).t())
        self.register_buffer("rows", torch.rand(16, 8)[8:])

    def forward(self, pixels: Tensor) -> Tensor:
        hidden: Tensor = self.second(self.first(self.features(pixels))) @ self.rows @ self.turned
        return hidden


def scripted(module: nn.Module) -> ScriptModule:
    return torch.jit.script(module)


def traced(module: nn.Module) -> ScriptModule:
    found: ScriptModule = torch.jit.trace(module, torch.zeros(1, 3, 9, 9))
    return found


both_ways = pytest.mark.parametrize("make", [scripted, traced])
Make = Callable[[nn.Module], ScriptModule]


def saved(module: ScriptModule, path: Path) -> Path:
    torch.jit.save(module, path)
    return path


def loaded(path: Path) -> ScriptModule:
    found: ScriptModule = torch.jit.load(path).eval()
    return found


def pictures() -> Tensor:
    return torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def tensors(module: ScriptModule) -> dict[str, Tensor]:
    return dict([*module.named_parameters(), *module.named_buffers()])


def mapped_to(path: Path) -> list[range]:
    """The addresses of this process that a file is mapped to."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    places = [line[0].split("-") for line in lines if line[-1] == str(path)]
    return [range(int(start, 16), int(end, 16)) for start, end in places]


@both_ways
def test_every_weight_lies_in_the_file_and_is_what_it_was(make: Make, tmp_path: Path) -> None:
    path = saved(make(Net().eval()), tmp_path / "net.pt")
    module = loaded(path)
    before = {name: tensor.clone() for name, tensor in tensors(module).items()}
    strides = {name: tensor.stride() for name, tensor in tensors(module).items()}
    expected = module(pictures())
    assert mapped_to(path) == []
    map_weights(module, path)
    after = tensors(module)
    (area,) = mapped_to(path)
    assert {name for name, tensor in after.items() if tensor.data_ptr() in area} == before.keys()
    assert len(before) > 8
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name: tensor.stride() for name, tensor in after.items()} == strides
    assert torch.equal(module(pictures()), expected)
    frozen = torch.jit.freeze(loaded(path))(pictures())
    assert torch.equal(torch.jit.freeze(module)(pictures()), frozen)


def test_what_is_written_to_a_weight_stays_out_of_the_file(tmp_path: Path) -> None:
    path = saved(scripted(Net().eval()), tmp_path / "net.pt")
    content = path.read_bytes()
    module = loaded(path)
    map_weights(module, path)
    module.train()(pictures())  # batch norms change their buffers
    assert path.read_bytes() == content


def test_compressed_weights_stay_as_they_are(tmp_path: Path) -> None:
    plain, packed = saved(scripted(Net().eval()), tmp_path / "plain.pt"), tmp_path / "packed.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name.replace("plain/", "packed/"), source.read(name))
    module = loaded(packed)
    expected = module(pictures())
    map_weights(module, packed)
    assert mapped_to(packed) == []
    assert torch.equal(module(pictures()), expected)


class Code:
    """Unpickled, it runs a program."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[list[str]]]:
        return subprocess.check_call, (["touch", str(self.trace)],)


def test_what_a_file_names_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    _Reader(io.BytesIO(pickle.dumps({"weight": Code(trace)}, protocol=2))).load()
    assert not trace.exists()
