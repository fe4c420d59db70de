import os
import pickle
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from classifier.architecture import build
from classifier.errors import UnusableError
from classifier.input import Input
from classifier.normalization import normalize
from classifier.pipeline import Classifier
from classifier.recipe import Recipe, read_recipe
from classifier.runtimes import Source, eager, load_runtime
from classifier.runtimes.eager import load_module, read_state_dict
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.archives.format import Format
from tests.conftest import TINY_RECIPE

Architecture = Callable[[str], str]

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        {init}

    def forward(self, pixels):
        return self.fc(pixels.mean((2, 3))){forward}
"""


@pytest.fixture
def architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Architecture:
    """Write a module of an architecture and get its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> str:
        name = f"net_{abs(hash(request.node.name))}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(STATE_DICT, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


STATE_DICT = {"fc.weight": torch.tensor([[1.0, 2, 3], [4, 5, 6]]), "fc.bias": torch.tensor([7.0, 8])}  # of NET
ONES = torch.ones(1, 3, 4, 4)
LOGITS = [[13.0, 23.0]]  # of ONES


def of(architecture: str) -> Recipe:
    """Tiny's recipe with another architecture."""
    return msgspec.structs.replace(read_recipe(TINY_RECIPE), architecture=architecture)


def random_pixels(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)


def source_in(directory: Path, serialized_file: str, runtime: str = "eager", **changes: Any) -> Source:
    """What to load of tiny from, in float32 and with one thread unless said otherwise."""
    recipe = read_recipe(TINY_RECIPE)
    variant = recipe.variant(runtime, "float32")
    source = Source(directory=directory, serialized_file=serialized_file, recipe=recipe, variant=variant, threads=1)
    return msgspec.structs.replace(source, **changes)


def test_eager_computes_what_the_module_computes(tiny: Classifier, tiny_weights: Path) -> None:
    from tiny_net import TinyNet

    module = TinyNet().eval()
    module.load_state_dict(torch.load(tiny_weights, weights_only=True))
    pixels = random_pixels(3)
    with torch.inference_mode():
        expected = module(normalize(torch.from_numpy(pixels), Input()))
    np.testing.assert_allclose(tiny.forward(pixels), expected, atol=1e-5, rtol=0)


def test_torchscript_equals_eager(tiny_archive: Callable[[str, Format], Path], tiny: Classifier) -> None:
    scripted = Classifier.load(tiny_archive("torchscript", "no-archive"))
    assert scripted.identity.model.runtime == "torchscript"
    pixels = random_pixels(7)
    logits = scripted.forward(pixels)
    assert (logits.shape, logits.dtype) == ((7, 10), np.dtype(np.float32))
    np.testing.assert_allclose(logits, tiny.forward(pixels), atol=1e-5, rtol=0)


@pytest.mark.parametrize("runtime", ["eager", "torchscript"])
def test_a_forward_pass_keeps_no_gradients_and_no_batch_statistics(
    tiny_archive: Callable[[str, Format], Path], runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Classifier.load(tiny_archive(runtime, "no-archive")).forward
    pixels = random_pixels(4)
    asked: list[bool] = []
    to_numpy = Tensor.numpy

    def numpy(logits: Tensor) -> NDArray[np.float32]:
        asked.append(logits.requires_grad)
        return to_numpy(logits)

    monkeypatch.setattr(Tensor, "numpy", numpy)
    first = forward(pixels)
    assert asked == [False]
    forward(random_pixels(9))
    assert np.array_equal(forward(pixels), first)
    one_by_one = [forward(pixels[index : index + 1]) for index in range(len(pixels))]
    np.testing.assert_allclose(np.concatenate(one_by_one), first, atol=1e-5, rtol=0)


def test_a_runtime_computes_with_the_recipes_normalization(architecture: Architecture, weights: Path) -> None:
    name = architecture(NET.format(init="", forward=""))
    recipe = read_recipe(TINY_RECIPE)
    spec = msgspec.structs.replace(recipe.input, normalization="half")
    source = source_in(
        weights.parent, weights.name, recipe=msgspec.structs.replace(recipe, architecture=name, input=spec)
    )
    white = np.full((1, 4, 4, 3), 255, np.uint8)  # 1 in each channel
    assert load_runtime(source)(white).tolist() == LOGITS


@pytest.mark.parametrize(
    ("init", "forward"),
    [
        pytest.param("", "", id="nothing-special"),
        pytest.param(
            "self.register_buffer('one', torch.tensor(1.0), persistent=False)",
            " * self.one",
            id="non-persistent-buffer",
        ),
        pytest.param("self.one = torch.tensor(1.0)", " * self.one", id="plain-tensor"),
        pytest.param("self.ones = [torch.tensor(1.0)]", " * self.ones[0]", id="tensor-in-a-list"),
        pytest.param("self.rates = torch.linspace(0, 1, 3).tolist()", " * self.rates[2]", id="looks-at-a-tensor"),
        pytest.param("self.rates = torch.linspace(0, 1, 3).numpy()", " * float(self.rates[2])", id="makes-an-array"),
    ],
)
def test_what_the_state_dict_does_not_carry_keeps_its_real_value(
    architecture: Architecture, weights: Path, init: str, forward: str
) -> None:
    module = load_module(of(architecture(NET.format(init=init, forward=forward))), weights)
    assert module(ONES).tolist() == LOGITS


def keeping(init: str, *forward: str) -> str:
    """An architecture that keeps something while it computes: what it does then, in which another thread comes in."""
    head = NET.format(init=init, forward="").partition("    def forward")[0]
    lines = ("def forward(self, pixels):", *(f"    {line}" for line in forward))
    return "\n".join(["import time, threading, weakref", head, *(f"    {line}" for line in lines), "", "kept = {}", ""])


def keeping_in(place: str, init: str = "") -> str:
    return keeping(init, f"{place} = pixels.mean((2, 3))", "time.sleep(0.002)", f"return self.fc({place})")


HOOK = "self.fc.register_forward_hook(lambda module, given, result: kept.update(found=result))"
KEEPERS = {
    "attribute": keeping_in("self.kept", "self.kept = None"),
    "weak-reference": keeping_in("self.me().kept", "object.__setattr__(self, 'me', weakref.ref(self))"),
    "global": keeping_in("kept['pixels']"),
    "lock": keeping_in("self.kept", "self.lock = threading.Lock()"),
    "hook": keeping(HOOK, "self.fc(pixels.mean((2, 3)))", "time.sleep(0.002)", "return kept['found']"),
}


@pytest.mark.parametrize("keeper", KEEPERS)
@pytest.mark.parametrize("callers", [1, 8])
def test_a_module_may_keep_things_while_it_computes(
    architecture: Architecture, weights: Path, keeper: str, callers: int
) -> None:
    source = source_in(weights.parent, weights.name, recipe=of(architecture(KEEPERS[keeper])), threads=2)
    compute = load_runtime(source)
    batches = list(np.arange(32, dtype=np.uint8).reshape(8, 4, 1, 1, 1).repeat(3, axis=4) * 8)
    expected = [np.concatenate([compute(batch[index : index + 1]) for index in range(4)]) for batch in batches]

    def farthest(number: int) -> float:
        return max(float(np.abs(compute(batches[number]) - expected[number]).max()) for _ in range(10))

    with ThreadPoolExecutor(callers) as threads:
        assert max(threads.map(farthest, range(8))) <= 1e-5


def test_the_number_of_torchs_threads_stays_the_callers(
    tiny_archive: Callable[[str, Format], Path],
) -> None:
    before = torch.get_num_threads()
    try:
        forward = load_runtime(
            source_in(tiny_archive("torchscript", "no-archive"), "tiny.pt", "torchscript", threads=2)
        )
        for number in (2, 1):
            torch.set_num_threads(number)
            for pictures in (1, 5):
                forward(random_pixels(pictures))
                assert torch.get_num_threads() == number
                with ThreadPoolExecutor(1) as thread:  # which has not computed before
                    assert thread.submit(torch.get_num_threads).result() == number
    finally:
        torch.set_num_threads(before)


def test_eager_computes_with_channels_last(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convolution, seen = nn.Conv2d(3, 4, 3).requires_grad_(requires_grad=False), list[Tensor]()
    convolution.register_forward_hook(lambda _, given, result: seen.extend([*given, result]))
    monkeypatch.setattr(eager, "load_module", lambda *_: convolution)
    load_runtime(source_in(tiny_folder, "tiny.pth"))(random_pixels(2))
    assert len(seen) == 2
    assert all(item.is_contiguous(memory_format=torch.channels_last) for item in (*seen, convolution.weight))


def test_a_loaded_module_is_ready_to_infer(architecture: Architecture, weights: Path) -> None:
    module = load_module(of(architecture(NET.format(init="", forward=""))), weights)
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_saved_in_another_precision_are_computed_with_in_float32(
    architecture: Architecture, weights: Path, precision: torch.dtype
) -> None:
    torch.save({name: value.to(precision) for name, value in STATE_DICT.items()}, weights)
    module = load_module(of(architecture(NET.format(init="", forward=""))), weights)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert module(ONES).tolist() == LOGITS


def test_a_state_dict_of_the_old_format_loads(tmp_path: Path) -> None:
    state_dict = {"fc.weight": torch.arange(6.0)}
    torch.save(state_dict, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert (tmp_path / "old.pth").read_bytes()[:2] != b"PK"
    assert read_state_dict(tmp_path / "old.pth")["fc.weight"].tolist() == [0, 1, 2, 3, 4, 5]


class Code:
    """Unpickled, it runs a program."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[list[str]]]:
        return subprocess.check_call, (["touch", str(self.trace)],)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_file_of_weights_is_not_run(tmp_path: Path, save: Callable[[object, Path], object]) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "it-ran"
    save({"fc.weight": Code(trace)}, path)
    with pytest.raises(UnusableError, match=r"evil\.pth"):
        read_state_dict(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(nn.Linear(2, 2), id="module"),
        pytest.param([torch.zeros(2)], id="list"),
        pytest.param(torch.zeros(2), id="tensor"),
        pytest.param({"state_dict": {"fc.weight": torch.zeros(2)}, "epoch": 3}, id="checkpoint"),
        pytest.param({"fc.weight": [1.0]}, id="no-tensors"),
    ],
)
def test_what_is_no_state_dict_is_refused_by_name(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UnusableError, match=r"other\.pth"):
        read_state_dict(tmp_path / "other.pth")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04", b"\x80\x02}.", os.urandom(5000)])
def test_what_torch_did_not_save_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.pth").write_bytes(content)
    with pytest.raises(UnusableError, match=r"other\.pth"):
        read_state_dict(tmp_path / "other.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_weights_are_refused_by_name(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"fc.weight": torch.zeros(100, 100)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UnusableError, match=r"cut\.pth"):
        read_state_dict(path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth"):
        read_state_dict(tmp_path / "nothing.pth")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"fc.bias": None}, "fc.bias", id="missing"),
        pytest.param({"fc.extra": torch.zeros(2)}, "fc.extra", id="unknown"),
        pytest.param({"fc.bias": torch.zeros(3)}, "fc.bias", id="other-shape"),
    ],
)
def test_weights_of_another_architecture_are_refused_with_what_differs(
    architecture: Architecture, weights: Path, change: dict[str, Tensor | None], named: str
) -> None:
    name = architecture(NET.format(init="", forward=""))
    content: dict[str, Tensor | None] = {**STATE_DICT, **change}
    torch.save({key: value for key, value in content.items() if value is not None}, weights)
    with pytest.raises(UnusableError) as caught:
        load_module(of(name), weights)
    for word in ("weights.pth", name, named):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from torch import nn\nclass One(nn.Module): ...\nclass Two(nn.Module): ...", "One, Two"),
        ("from torch import nn\nfrom torch.nn import Linear", "none"),
        ("class NoModule: ...", "none"),
    ],
)
def test_a_module_without_exactly_one_class_is_refused_with_those_it_has(
    architecture: Architecture, source: str, found: str
) -> None:
    name = architecture(source)
    with pytest.raises(UnusableError, match=f"{name}.*exactly one.*{found}"):
        build(name)


def test_a_class_that_wants_arguments_is_refused_with_those(architecture: Architecture) -> None:
    name = architecture("from torch import nn\nclass Net(nn.Module):\n    def __init__(self, width): ...")
    with pytest.raises(UnusableError, match=f"{name}.*width"):
        build(name)


def test_a_second_name_of_the_class_is_no_second_class(architecture: Architecture) -> None:
    assert isinstance(build(architecture(NET.format(init="", forward="") + "\nModel = Net")), nn.Module)


def test_an_architecture_that_does_not_exist_is_named_with_its_file() -> None:
    with pytest.raises(UnusableError, match=r"handlers/no_such_net\.py"):
        build("no_such_net")


def test_an_import_that_fails_within_the_architecture_is_the_one_that_is_named(architecture: Architecture) -> None:
    name = architecture("import no_such_package")
    with pytest.raises(UnusableError, match="no_such_package"):
        build(name)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04"])
def test_what_is_no_torchscript_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.pt").write_bytes(content)
    with pytest.raises(UnusableError, match=r"other\.pt"):
        load_runtime(source_in(tmp_path, "other.pt", "torchscript"))


def test_a_state_dict_is_no_torchscript(weights: Path) -> None:
    with pytest.raises(UnusableError, match=r"weights\.pth"):
        load_runtime(source_in(weights.parent, weights.name, "torchscript"))
