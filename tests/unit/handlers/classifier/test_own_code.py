"""The code of an archive answers, whatever modules of the same names the process has."""

import importlib
import inspect
import shutil
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from classifier import load
from classifier.architecture import build
from classifier.digests import DIGESTS_FILE, write_digests
from classifier.errors import UnusableError
from classifier.explain import explain
from classifier.own_code import own_code
from classifier.pipeline import Classifier

SAYS = """
import {names}
from parts_of_it.layers import width as statically
from parts_of_it import layers as of_package
import parts_of_it.deep.layer as renamed

def lazily():
    from parts_of_it.layers import width
    return width

def by_name(name):
    import importlib
    from importlib import import_module
    assert importlib.import_module(name) is import_module(name)
    return importlib.import_module(name).width
"""
LAYERS = """
from __future__ import annotations
from dataclasses import dataclass, field
from typing import ClassVar
from . import deep
from .deep.layer import deepest
import says_it  # which is not imported as a whole yet

width = {width}

@dataclass
class Layer:
    kinds: ClassVar[list[int]] = []
    sizes: Sizes = field(default_factory=list)

class Sizes(list[int]): ...
"""


def folder(path: Path, width: int, names: str = "math") -> Path:
    """An archive's code: a module, and a package that it needs."""
    files = {
        "says_it.py": SAYS.format(names=names),
        "parts_of_it/__init__.py": "",
        "parts_of_it/layers.py": LAYERS.format(width=width),
        "parts_of_it/deep/__init__.py": "",
        "parts_of_it/deep/layer.py": f"deepest = {width}",
    }
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


@pytest.fixture
def today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Modules of the same names that the process finds, and has imported."""
    monkeypatch.syspath_prepend(folder(tmp_path / "today", 1))
    before = set(sys.modules)
    yield str(importlib.import_module("says_it").__file__)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("says_it", "parts_of_it"):
            del sys.modules[name]


def test_each_archives_modules_import_its_own_and_the_processs_stay(today: str, tmp_path: Path) -> None:
    before = dict(sys.modules)
    two, three = (own_code(folder(tmp_path / str(width), width)) for width in (2, 3))
    for code, width in ((two, 2), (three, 3), (two, 2)):
        says = code.import_module("says_it")
        assert [says.statically, says.of_package.width, says.renamed.deepest] == [width] * 3
        assert [says.lazily(), says.by_name("parts_of_it.layers")] == [width] * 2
        assert says.of_package.deepest == width
        assert says.of_package.says_it is says
        assert says.math is sys.modules["math"]
    mine = sys.modules["says_it"]
    assert (mine.__file__, mine.lazily(), mine.by_name("parts_of_it.layers")) == (today, 1, 1)
    assert {name: sys.modules[name] for name in before} == before


def test_what_looks_a_module_up_by_the_name_of_its_class_finds_the_archives(today: str, tmp_path: Path) -> None:
    layer = own_code(folder(tmp_path / "2", 2)).import_module("says_it").of_package.Layer
    assert layer().sizes == []
    assert typing.get_type_hints(layer)["sizes"].__module__ == layer.__module__
    assert inspect.getsourcefile(layer) == str(tmp_path / "2/parts_of_it/layers.py")


def test_the_folder_stays_as_it_was_and_what_lies_in_it_now_is_executed(tmp_path: Path) -> None:
    place = folder(tmp_path / "2", 2)
    files = sorted(place.rglob("*"))
    assert own_code(place).import_module("says_it").lazily() == 2
    assert sorted(place.rglob("*")) == files  # no cache of compiled code
    (place / "parts_of_it/layers.py").write_text("width = 7")  # as long as before, within the same second
    assert own_code(place).import_module("says_it").lazily() == 7


def test_compiled_code_that_lies_in_the_folder_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No digest covers it."""
    import py_compile

    place = folder(tmp_path / "2", 2)
    source = place / "parts_of_it/deep/layer.py"
    source.write_text("deepest = 9")
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    source.write_text("deepest = 2")
    assert own_code(place).import_module("says_it").renamed.deepest == 2


def test_a_package_may_have_all_its_code_in_packages_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "layers_of/its/own").mkdir(parents=True)
    (tmp_path / "layers_of/its/own/layer.py").write_text("width = 5")
    (tmp_path / "net_of_it.py").write_text("import layers_of.its.own.layer as layer\nwidth = layer.width")
    assert own_code(tmp_path).import_module("net_of_it").width == 5


def test_a_module_that_the_archive_lacks_is_named_as_the_archive_would(tmp_path: Path) -> None:
    code = own_code(folder(tmp_path / "2", 2, names="math, parts_of_it.gone"))
    with pytest.raises(UnusableError, match=r"architecture says_it: module parts_of_it\.gone is missing"):
        build("says_it", code=code)
    code = own_code(folder(tmp_path / "3", 3, names="gone_altogether"))
    with pytest.raises(UnusableError, match="architecture says_it: module gone_altogether is missing"):
        build("says_it", code=code)


@pytest.fixture
def changed(tiny_folder: Path, tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """Copies tiny's archive with another text in its architecture."""

    def change(texts: Mapping[str, str]) -> Path:
        copy = shutil.copytree(tiny_folder, tmp_path / f"archive-{len(list(tmp_path.iterdir()))}")
        source = (copy / "tiny_net.py").read_text()
        for old, new in texts.items():
            assert source.count(old) == 1
            source = source.replace(old, new)
        (copy / "tiny_net.py").write_text(source)
        (copy / DIGESTS_FILE).unlink()
        write_digests(copy)
        return copy

    return change


def test_two_archives_with_modules_of_one_name_each_answer_by_their_own(
    changed: Callable[[Mapping[str, str]], Path], tiny: Classifier, cat: bytes
) -> None:
    tanh, negative = changed({"nn.ReLU()": "nn.Tanh()"}), changed({"return logits": "return -logits"})
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    expected = tiny.logits(pixels)
    of_tanh, of_negative = Classifier.load(tanh), Classifier.load(negative)
    assert np.array_equal(of_negative.logits(pixels), -expected)
    assert np.abs(of_tanh.logits(pixels) - expected).max() > 1e-3
    assert np.array_equal(tiny.logits(pixels), expected)
    assert np.array_equal(load(negative, threads=1).core.logits(pixels), -expected)  # as many as expected has
    import tiny_net

    assert not any("archive-" in str(module.__file__) for module in (tiny_net, sys.modules["tiny_net"]))
    for method in ("grad_cam", "integrated_gradients"):
        maps = [explain(model, cat, "t01", method).heatmap for model in (tiny, of_tanh, of_negative)]
        assert not np.allclose(maps[0], maps[1], atol=1e-3)
        assert not np.allclose(maps[0], maps[2], atol=1e-3)
