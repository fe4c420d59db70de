"""The packages that archives' runtimes take, beyond what every worker has."""

from typing import Final

from classifier.identity import Identity
from classifier.recipe import RuntimeName

from scripts.console import UserError
from scripts.packages import lacking, require

_OWN_PACKAGE: Final[tuple[RuntimeName, ...]] = ("onnxruntime", "openvino", "ncnn")  # each is an extra of pyproject.toml


def packages(runtime: str) -> tuple[str, ...]:
    """The extras of pyproject.toml with what a worker imports for archives of this runtime."""
    return (runtime,) if runtime in _OWN_PACKAGE else ()


def require_runtime(identity: Identity) -> None:
    """Have what a worker imports for an archive, in the environment that workers share with this process.

    The packages of its runtime are the project's, and are installed. What the archive asks for itself is not: it may be
    a stranger's, who would then choose what is installed here.

    Raises:
        UserError: something is missing, and is not installed here.
    """
    runtime = identity.model.runtime
    if needed := packages(runtime):
        require(*needed, why=f"an archive for {runtime}")
    if absent := lacking(identity.requirements):
        named = " ".join(f"'{item}'" for item in absent)
        raise UserError(f"the archive of {identity.model.name} needs packages that are not here: pip install {named}")
