"""The packages that archives' runtimes take, beyond what every worker has."""

from typing import Final

from classifier.recipe import RuntimeName

from scripts.packages import require

_OWN_PACKAGE: Final[tuple[RuntimeName, ...]] = ("onnxruntime", "openvino")  # each is an extra of pyproject.toml


def packages(runtime: str) -> tuple[str, ...]:
    """The extras of pyproject.toml with what a worker imports for archives of this runtime."""
    return (runtime,) if runtime in _OWN_PACKAGE else ()


def require_runtime(runtime: RuntimeName) -> None:
    """Have what a worker imports for archives of this runtime, in the environment that workers share with this process.

    Raises:
        UserError: it is missing, and cannot be installed here.
    """
    if needed := packages(runtime):
        require(*needed, why=f"an archive for {runtime}")
