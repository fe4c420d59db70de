"""Fixtures of all tests: pictures, and a third classifier of a recipe and a module.

What imports torch is imported in the fixtures: the process that hands out the tests to others needs none of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import msgspec
import pytest
from classifier.cpu import computes
from classifier.recipe import read_recipe
from filelock import FileLock

from scripts.archives.format import Format
from scripts.building.options import Options
from stress.hostile.files import encode as encode

if TYPE_CHECKING:
    from classifier.pipeline import Classifier

    from stress.questions import Body

# The same examples every time; `HYPOTHESIS=search` looks for others, as many as `HYPOTHESIS_EXAMPLES` says.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=150, database=None)
hypothesis.settings.register_profile(
    "search", deadline=None, max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "5000"))
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS", "repeatable"))

# Temporary files stay in the checkout, where `make clean` finds them, each run's in a numbered folder of its own: with
# one `--basetemp` for all, a run that began removed the files of another.
TEMPORARY = Path(__file__).parents[1] / ".pytest_tmp"
TEMPORARY.mkdir(exist_ok=True)
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(TEMPORARY))

THIRD_MODEL = Path(__file__).parent / "third_model"
# Marks of tests that may be skipped in CI: a processor cannot be installed, and some programs need not be.
_MAY_BE_SKIPPED = ("bfloat16", "optional_program")
TINY_RECIPE = THIRD_MODEL / "tiny.yaml"
FEW_RECIPE = THIRD_MODEL / "few.yaml"  # three classes


@pytest.fixture(scope="session", autouse=True)
def interrupts_arrive() -> None:
    """Programs that tests start and interrupt inherit what is ignored, and a shell's background job ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cat() -> bytes:
    """A photograph of an Egyptian cat, 451 x 300 RGB PNG."""
    from scripts.building.golden import photograph

    return photograph("chelsea.png").read_bytes()


@pytest.fixture(scope="session")
def coffee() -> bytes:
    """A photograph of an espresso, 600 x 400 RGB PNG."""
    from scripts.building.golden import photograph

    return photograph("coffee.png").read_bytes()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run have in common: what is costly to build, one of them builds for all."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def hostile(shared: Path) -> list[Body]:
    """The hostile corpus, which takes a quarter of a minute to make."""
    from stress.hostile.corpus import corpus
    from stress.questions import Body

    path = shared / "corpus"
    with FileLock(shared / ".corpus.lock"):
        if not path.exists():
            path.write_bytes(msgspec.msgpack.encode(corpus()))
    return msgspec.msgpack.decode(path.read_bytes(), type=list[Body])


@pytest.fixture(scope="session")
def tiny_weights(shared: Path) -> Path:
    """A state_dict for tiny, with logits that differ clearly from picture to picture."""
    import torch
    from tiny_net import TinyNet

    path = shared / "tiny-trained.pth"
    with FileLock(shared / ".weights.lock"):
        if not path.exists():
            with torch.random.fork_rng():
                torch.manual_seed(7)
                torch.save(TinyNet().state_dict(), path)
    return path


@pytest.fixture(scope="session")
def tiny_archive(shared: Path, tiny_weights: Path) -> Callable[..., Path]:
    """Build an archive of tiny for a runtime in a format and a precision; each one once a run. Do not change it."""
    built: dict[tuple[str, Format, str], Path] = {}

    def archive(runtime: str = "eager", archive_format: Format = "zip-store", precision: str = "float32") -> Path:
        wanted = runtime, archive_format, precision
        if wanted not in built:
            options = Options(
                recipe=TINY_RECIPE,
                runtime=runtime,
                precision=precision,
                weights=str(tiny_weights),
                archive_format=archive_format,
                store=shared / archive_format,
                cache=shared / "cache",
            )
            built[wanted] = _built_once(options)
        return built[wanted]

    return archive


@pytest.fixture(scope="session")
def few_weights(shared: Path) -> Path:
    """A state_dict for the model of three classes."""
    import torch
    from few_net import FewNet

    path = shared / "few-trained.pth"
    with FileLock(shared / ".weights.lock"):
        if not path.exists():
            torch.save(FewNet().state_dict(), path)
    return path


@pytest.fixture(scope="session")
def few_archive(shared: Path, few_weights: Path) -> Callable[..., Path]:
    """Build an archive of the model of three classes for a runtime; each one once a run. Do not change it."""

    def archive(runtime: str = "eager") -> Path:
        options = Options(
            recipe=FEW_RECIPE, runtime=runtime, weights=str(few_weights), store=shared / "few", cache=shared / "cache"
        )
        return _built_once(options)

    return archive


@pytest.fixture(scope="session")
def flowers(shared: Path) -> Path:
    """Pictures of the three classes, all of them clear: a folder for each, named by id or by name in some spelling."""
    from PIL import Image

    folder = shared / "flowers"
    with FileLock(shared / ".flowers.lock"):
        if not folder.exists():
            for name, colour in (("rose", (220, 40, 30)), ("FOUGE\u0300RE", (30, 200, 60)), ("菖蒲", (40, 30, 210))):
                (folder / name).mkdir(parents=True)
                for number, size in enumerate(((64, 48), (50, 90))):
                    Image.new("RGB", size, colour).save(folder / name / f"{number}.png")
    return folder


def _built_once(options: Options) -> Path:
    """The archive, which the first process that needs it builds while the others wait."""
    from scripts.building.build import build

    path = path_of(options)
    finished = path.parent.parent / f".{path.name}.finished"
    with FileLock(finished.with_suffix(".lock")):
        if not finished.exists():
            assert build(options)[0] == path
            finished.touch()
    return path


def path_of(options: Options) -> Path:
    """The archive that a build with these options writes, of a recipe of the test models."""
    version = options.version or read_recipe(options.recipe).variant(options.runtime, options.precision).version
    return options.store / str(options.name(options.recipe.stem, version))


@pytest.fixture(scope="session")
def tiny_folder(tiny_archive: Callable[[str, Format], Path]) -> Path:
    """An unpacked eager archive of tiny. Do not change it: copy it first."""
    return tiny_archive("eager", "no-archive")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Classifier:
    """The tiny classifier, loaded."""
    from classifier.pipeline import Classifier

    return Classifier.load(tiny_folder)


_COMPILERS = ("aotinductor", "onnxruntime", "openvino", "ncnn")


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test of an archive that a compiler makes is slow, whether it or one before it is what builds the archive."""
    if isinstance(item, pytest.Function) and "tiny_archive" in item.fixturenames:
        given = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(getattr(value, "runtime", value) in _COMPILERS for value in given):
            item.add_marker("slow")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("bfloat16") and not computes("bfloat16"):
        pytest.skip("this processor has no bfloat16 instructions")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip is a failure: what can be installed must be there, unless nobody has to have it."""
    report = yield
    allowed = any(item.get_closest_marker(name) for name in _MAY_BE_SKIPPED)
    if report.skipped and os.environ.get("CI") == "true" and not allowed:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report
