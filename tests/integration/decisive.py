"""Networks with seeded weights whose answers depend on the picture, so that comparing them says something.

With its initial values a network answers nearly the same to every picture. Here the statistics of its normalisations
are those of the pictures, and its last layer is solved so that each picture is a class of its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from scripts.building.golden import golden_set

_SEED: Final = 0
_STEP: Final = 0.25  # logits between one class and the next
_MARGIN: Final = 2.0  # logits more between the picture's own class and the next
_REGULARIZATION: Final = 0.03  # of the features' mean variance: rounding errors are not amplified without limit
_LARGE: Final = 500  # pixels of the short side
_TWIN: Final = "motorcycle_right"  # is motorcycle_left, seen from 20 cm further right

Network = TypeVar("Network", bound=nn.Module)


def write_pictures(folder: Path) -> list[Path]:
    """The 20 photographs as every library reads them alike: in RGB.

    The large JPEGs become PNG, because they would be decoded at half their size, which changes levels a little on
    purpose; tests of `decode` say how much.
    """
    folder.mkdir()
    written = []
    for path in golden_set():
        if path.stem != _TWIN:
            with Image.open(path) as picture:
                whole = path.suffix == ".jpg" and min(picture.size) < _LARGE
                written.append(folder / (path.name if whole else f"{path.stem}.png"))
                if whole:
                    written[-1].write_bytes(path.read_bytes())
                else:
                    picture.convert("RGB").save(written[-1], compress_level=1)
    return written


@contextmanager
def seeded() -> Iterator[None]:
    """The same initial values every time, and torch's own state untouched."""
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        yield


@torch.no_grad()
def decide(network: Network, pictures: Sequence[Tensor]) -> Network:
    """Make a network tell these pictures apart, one class for each.

    Args:
        network: takes [N,C,H,W], ends in a linear layer, and gives logits, of transformers in an object.
        pictures: [C,H,W] each, as its library prepares them.

    Returns:
        The network itself, in evaluation mode.
    """
    inputs = torch.stack(list(pictures))
    network.eval()
    _set_weights(network)
    for norm in _modules(network, nn.modules.batchnorm._BatchNorm):
        norm.train()
        norm.momentum = None  # the mean of all batches, of which there is one
        norm.reset_running_stats()
    network(inputs)
    network.eval()
    head = list(_modules(network, nn.Linear))[-1]
    features: list[Tensor] = []
    with head.register_forward_pre_hook(lambda _, given: features.append(given[0])):
        network(inputs)
    head.weight.copy_(_solved(features[0].double()))
    head.bias.copy_(-head.weight @ features[0].mean(0))
    return network


def _set_weights(network: nn.Module) -> None:
    """Weights that let a picture through: many libraries' initial ones let branches begin near zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)


def _solved(features: Tensor) -> Tensor:
    """Weights [classes,features] of a ridge regression from features [classes,features] to the logits of `_wanted`."""
    centred = features - features.mean(0)
    products = centred @ centred.T
    identity = torch.eye(len(features), dtype=features.dtype)
    ridge = _REGULARIZATION * products.diagonal().mean()
    wanted = _wanted(len(features)).to(features)
    weights = wanted.T @ torch.linalg.solve(products + ridge * identity, centred)
    return (weights * wanted.norm() / (centred @ weights.T).norm()).float()


def _wanted(classes: int) -> Tensor:
    """Logits [classes,classes]: the own class first, the others after it in turn, so that each has a rank."""
    own = torch.arange(classes)
    logits = _STEP * -((own - own[:, None]) % classes).float() + _MARGIN * torch.eye(classes)
    return logits - logits.mean(0)


def _modules(network: nn.Module, kind: type) -> Iterator[nn.Module]:
    return (module for module in network.modules() if isinstance(module, kind))
