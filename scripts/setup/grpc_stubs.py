"""Generate Python stubs from the proto files that the installed TorchServe carries in its jar: part of `make setup`.

They become the package `torchserve_grpc` in the virtual environment, so they always match the installed TorchServe.
"""

import importlib.util
import sysconfig
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from grpc_tools import protoc

from scripts.console import UserError, done, run

PACKAGE: Final = "torchserve_grpc"
_PROTOS: Final = ("inference.proto", "management.proto")


def generate(jar: Path, target: Path) -> None:
    """Write the stubs of the jar's proto files as a package below `target`.

    Raises:
        UserError: the jar has no such files, or protoc refuses them.
    """
    with tempfile.TemporaryDirectory() as name:
        sources = Path(name)
        (sources / PACKAGE).mkdir()
        with zipfile.ZipFile(jar) as packed:
            packed.extractall(sources, [entry for entry in packed.namelist() if entry.startswith("google/")])
            for proto in _PROTOS:
                if f"proto/{proto}" not in packed.namelist():
                    raise UserError(f"{jar} has no {proto}; is this TorchServe 0.12?")
                (sources / PACKAGE / proto).write_bytes(packed.read(f"proto/{proto}"))
        outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
        code = protoc.main(["protoc", f"-I{sources}", *outputs, *(f"{PACKAGE}/{proto}" for proto in _PROTOS)])
    if code != 0:
        raise UserError(f"protoc could not compile {', '.join(_PROTOS)} of {jar}")
    (target / PACKAGE / "__init__.py").touch()
    (target / PACKAGE / "py.typed").touch()


def main() -> None:
    """Generate into the environment that runs this."""
    spec = importlib.util.find_spec("ts")
    if spec is None or spec.origin is None:
        raise UserError("torchserve is not installed; run `make setup`")
    target = Path(sysconfig.get_path("purelib"))
    generate(Path(spec.origin).parent / "frontend" / "model-server.jar", target)
    done(f"gRPC stubs: package {PACKAGE}")


if __name__ == "__main__":
    run(main)
