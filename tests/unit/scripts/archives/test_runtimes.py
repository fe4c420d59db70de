"""Whoever loads an archive, serves or registers it has the package of its runtime, as the archive names it."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from classifier.identity import Identity, Model
from classifier.recipe import RuntimeName

from scripts.archives import runtimes
from scripts.archives.loaded import loaded
from scripts.archives.runtimes import require_runtime
from scripts.archives.store import find_archive
from scripts.console import UserError
from scripts.serving.manage import register
from scripts.torchserve.client import Client
from scripts.torchserve.config import CONFIG_FILE, read_config, with_free_ports
from scripts.torchserve.server import find, start
from tests.unit.conftest import FakeTorchServe
from tests.unit.test_makefile import ROOT

MISSING = "an archive for openvino needs openvino"


def identity(runtime: RuntimeName, *requirements: str) -> Identity:
    """What an archive for that runtime says of itself."""
    model = Model(name="tiny", version="1.0", runtime=runtime, precision="float32", weights="mine")
    return Identity(model=model, weights_sha256="0" * 64, serialized_file="tiny.pth", requirements=[*requirements])


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment of the user's own, with the base only."""

    def require(*extras: str, why: str) -> None:
        raise UserError(f"{why} needs {', '.join(extras)}")

    monkeypatch.setattr(runtimes, "require", require)


@pytest.mark.parametrize("runtime", get_args(RuntimeName))
def test_three_runtimes_have_packages_of_their_own(runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(runtimes, "require", lambda *extras, why: asked.append((extras, why)))
    require_runtime(identity(runtime))
    own = runtime in ("onnxruntime", "openvino", "ncnn")
    assert asked == ([((runtime,), f"an archive for {runtime}")] if own else [])


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_installed")
def test_loading_asks_for_it_before_it_imports(tiny_archive: Callable[..., Path]) -> None:
    with loaded(tiny_archive("eager")):
        pass
    with pytest.raises(UserError, match=MISSING), loaded(tiny_archive("openvino")):
        pass


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_installed")
def test_a_server_is_not_started_without_it(tiny_archive: Callable[..., Path], tmp_path: Path) -> None:
    path = tiny_archive("openvino")
    config = with_free_ports(read_config(ROOT / CONFIG_FILE)) | {"model_store": str(path.parent)}
    with pytest.raises(UserError, match=MISSING):
        start(config, [find_archive(path.name, path.parent)], tmp_path)
    assert find(tmp_path) is None


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_installed")
def test_a_running_server_is_not_asked_to_load_it(
    tiny_archive: Callable[..., Path], tmp_path: Path, torchserve: FakeTorchServe
) -> None:
    with pytest.raises(UserError, match=MISSING):
        register(Client(torchserve.addresses), tiny_archive("openvino"), tmp_path / "log")
    assert torchserve.asked == []


def test_what_an_archive_asks_for_itself_is_never_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("pip was run for an archive"))
    with pytest.raises(UserError, match=r"pip install 'no-such-package==1\.0'"):
        require_runtime(identity("eager", "no-such-package==1.0"))
    require_runtime(identity("eager", "pillow>=1"))
