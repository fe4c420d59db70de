"""An architecture of a user's own, of several modules: a small network of colour pictures, and one of grey ones."""

from petals.blocks import Block
from petals.pooling import spread
from torch import Tensor, nn


class Meadow(nn.Module):
    """Blocks, whose means and deviations are classified."""

    def __init__(self, num_classes: int = 20, channels: int = 3) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(channels, 16), Block(16, 32), Block(32, 64))
        self.head = nn.Linear(128, num_classes)

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.head(spread(self.blocks(pictures)))
        return features


def grey_meadow(num_classes: int = 20) -> Meadow:
    """The same for pictures of one channel."""
    return Meadow(num_classes, channels=1)
