"""Adopts a checkpoint with an architecture of the user's own."""

from pathlib import Path
from typing import Final

import msgspec
from classifier.architecture import build
from classifier.input import Input
from torch import nn

from scripts.adopting.adoption import Adoption, Request, model_name, whole_input
from scripts.adopting.libraries import adopt_timm, adopt_torchvision
from scripts.adopting.own_weights import give_weights
from scripts.building.checkpoint import read_checkpoint
from scripts.console import UserError

_USUAL: Final = (
    "the usual of ImageNet, because a checkpoint does not say how pictures were prepared; LIKE= takes another's"
)
_USUAL_OF_GREY: Final = (
    "the usual size, and levels from -1 to 1, because a checkpoint does not say how pictures were prepared; LIKE= "
    "takes another's"
)


def adopt_checkpoint(path: Path, weights: str, request: Request) -> Adoption:
    """Adopt a checkpoint: `weights` is its path, perhaps with `#entry=…&prefix=…`.

    Raises:
        UserError: no architecture is given, or the checkpoint does not fit it.
    """
    if request.architecture is None:
        read_checkpoint(path)  # what is wrong with the file itself is said first
        raise UserError(
            f"{path} has weights alone; say of what: ARCHITECTURE=torchvision:<name>, timm:<name>, or <module>:<Class> "
            "of handlers/"
        )
    name = request.name or model_name(path.stem)
    given = msgspec.structs.replace(request, weights=weights, name=name)
    scheme, _, rest = request.architecture.partition(":")
    if scheme in ("torchvision", "timm"):
        adoption = (adopt_torchvision if scheme == "torchvision" else adopt_timm)(rest, given)
        adoption.source = f"{path.name} of {request.architecture}"
        return adoption
    if scheme == "transformers":
        raise UserError("transformers needs the configuration: give the folder of config.json as FROM=")
    adoption = Adoption(name=name, source=f"{path.name} of {request.architecture}")
    adoption.fields["architecture"] = request.architecture
    give_weights(adoption, given)
    if _channels(adoption) == 1:
        adoption.known["channels"] = "grey"
        adoption.take(f"one channel, grey, from the first convolution of {request.architecture}")
        adoption.assume("input", whole_input(Input(channels="grey", normalization="half")), _USUAL_OF_GREY)
    else:
        adoption.assume("input", whole_input(Input()), _USUAL)
    return adoption


def _channels(adoption: Adoption) -> int | None:
    """The number of channels that the first convolution of a buildable architecture takes; None without one."""
    module = build(adoption.fields["architecture"], adoption.fields.get("arguments"))
    return next((part.in_channels for part in module.modules() if isinstance(part, nn.Conv2d)), None)
