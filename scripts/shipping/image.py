"""Builds the container image with docker, podman or buildah, whichever is installed: `make image`."""

import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.archives.store import STORE, find_archive, read_archive_identity, sbom_of, signature_of
from scripts.console import UserError, done, step

NAME: Final = "torchserve-image-classifier"

_ROOT: Final = Path(__file__).parents[2]
# The code that runs in a container; not the programs that build archives, or measure or stress a server.
_APP: Final = (
    "handlers/classifier",
    *(f"scripts/{name}" for name in ("__init__.py", "background.py", "console.py", "ports.py", "packages.py")),
    *(f"scripts/{name}" for name in ("archives", "admission", "torchserve", "exporter", "serving")),
)
_EXTRAS: Final = ("serve", "onnxruntime", "openvino", "ncnn", "explain")  # of the project's dependencies
_ENGINES: Final = {
    "docker": ("docker", "build"),
    "podman": ("podman", "build", "--format", "docker"),  # HEALTHCHECK is docker's
    "buildah": ("buildah", "build", "--format", "docker"),
}


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((_ROOT / "pyproject.toml").read_text())


def _project() -> dict[str, Any]:
    project: dict[str, Any] = _pyproject()["project"]
    return project


def cpu_index() -> str:
    """The address of PyTorch's own index, whose torch has no CUDA."""
    return str(_pyproject()["tool"]["torchserve-image-classifier"]["torch-cpu-index"])


def version() -> str:
    """The project's version."""
    return str(_project()["version"])


def requirements(archives: Sequence[Path] = ()) -> list[str]:
    """The packages that the programs in the image, the workers of every runtime and these archives import.

    Raises:
        UserError: two of them need different versions of one package; the message names it.
    """
    project = _project()
    extras = [item for extra in _EXTRAS for item in project["optional-dependencies"][extra]]
    own = {item for archive in archives for item in read_archive_identity(archive).requirements}
    every = sorted({*project["dependencies"], *extras, *own})
    for name, lines in _by_name(every).items():
        if len({str(Requirement(line).specifier) for line in lines}) > 1:
            raise UserError(f"an image has one version of {name}, not {' and '.join(lines)}; build two images")
    return every


def _by_name(lines: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(canonicalize_name(Requirement(line).name), []).append(line)
    return found


def tag(gpu: bool) -> str:
    """The image's name and tag."""
    return f"{NAME}:{version()}{'-gpu' if gpu else ''}"


def write_context(folder: Path, archives: Sequence[Path]) -> None:
    """Collect the files that the Dockerfile copies, and nothing else of the checkout.

    Args:
        folder: the folder to write into.
        archives: the archives to put into the image.

    Raises:
        UserError: two archives have the same file name, which the image's one folder does not allow; or they need
            different versions of one package.
    """
    names = [archive.name for archive in archives]
    if len(set(names)) < len(names):
        raise UserError(
            f"two archives have the same file name ({', '.join(sorted(names))}), but an image has only one folder"
        )
    docker = _ROOT / "docker"
    for name in ("Dockerfile", "config.properties"):
        shutil.copy(docker / name, folder)
    shutil.copytree(docker / "bin", folder / "bin")
    (folder / "requirements.txt").write_text("\n".join(requirements(archives)) + "\n")
    for name in _APP:
        _copy(_ROOT / name, folder / "app" / name.removeprefix("handlers/"))
    (folder / "archives").mkdir()
    for archive in archives:
        for path in (archive, signature_of(archive), sbom_of(archive)):
            if path.exists():
                _copy(path, folder / "archives" / path.name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def build_arguments(gpu: bool, torch_index: str | None) -> dict[str, str]:
    """The build arguments of the Dockerfile."""
    index = torch_index if torch_index is not None else "" if gpu else cpu_index()
    return {"VERSION": version(), "REVISION": _revision(), "TORCH_INDEX": index}


def _revision() -> str:
    result = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() or "unknown"


def engine() -> tuple[str, ...]:
    """The command that builds images on this machine.

    Raises:
        UserError: there is no such command.
    """
    for name, command in _ENGINES.items():
        if shutil.which(name) and _works(name):
            return command
    raise UserError(f"none of {', '.join(_ENGINES)} works here; install or start one to build images")


def _works(name: str) -> bool:
    """Whether an engine works: docker's client needs a daemon, which may not run."""
    question = [name, "version", "--format", "{{.Server.Version}}"] if name == "docker" else [name, "--version"]
    return subprocess.run(question, capture_output=True, check=False).returncode == 0


def build(archives: Sequence[Path], gpu: bool, torch_index: str | None) -> str:
    """Build the image; returns its name and tag.

    Raises:
        UserError: there is no engine, or the build failed.
    """
    name = tag(gpu)
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        write_context(Path(folder), archives)
        arguments = [f"--build-arg={key}={value}" for key, value in build_arguments(gpu, torch_index).items()]
        step(f"building {name}")
        if subprocess.run([*engine(), "--tag", name, *arguments, folder], check=False).returncode:
            raise UserError(f"{name} could not be built; see above")
    return name


def main(
    *,
    archive: tuple[str, ...] = (),
    gpu: bool = False,
    torch_index: str | None = None,
    context: Path | None = None,
    store: Path = STORE,
) -> None:
    """Build the container image.

    Args:
        archive: archives to put into the image; without any, mount them at /models.
        gpu: CUDA builds of the packages, for GPUs.
        torch_index: index of torch besides PyPI; without it, PyTorch's own index of CPU builds, and none for GPUs.
        context: folder to write the build context into, instead of a build.
        store: folder of the archives.
    """
    paths = [find_archive(name, store).path for name in archive]
    if context:
        context.mkdir(parents=True)
        write_context(context, paths)
        return
    name = build(paths, gpu, torch_index)
    done(f"{name}; docker/README.md says how to run it")
