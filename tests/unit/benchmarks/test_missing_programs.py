"""A measurement that cannot be made here says so before minutes of building and serving, and installs nothing."""

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import tune
from edge import cpp_program
from scripts.console import UserError
from scripts.shipping import image, validate


@pytest.fixture(autouse=True)
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with none of the programs that `make setup-system` installs, where no other is started either."""

    def refuse(command: list[str], **_: object) -> None:
        raise AssertionError(f"{command} is started")

    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)


def test_bench_and_tune_need_wrk(tmp_path: Path) -> None:
    for measure in (bench.main, tune.main):
        with pytest.raises(UserError, match=r"^wrk, which sends the load, is missing; `make setup-system`"):
            measure(output=tmp_path / "output", store=tmp_path / "store")
    assert not list(tmp_path.iterdir())


def test_the_cpp_program_needs_cmake() -> None:
    with pytest.raises(UserError, match=r"needs CMake, a compiler and some libraries; `make setup-system` installs"):
        cpp_program.build()


def test_an_image_needs_an_engine() -> None:
    with pytest.raises(UserError, match="none of docker, podman, buildah works here; install or start one"):
        image.engine()


def test_the_autoscalers_queries_need_promtool(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"promtool is missing: `make setup-system` installs it"):
        validate.check_queries(tmp_path)
