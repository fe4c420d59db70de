from torch import Tensor, nn


class Block(nn.Module):
    """A convolution that halves both sides."""

    def __init__(self, taken: int, given: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(taken, given, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(given)

    def forward(self, pictures: Tensor) -> Tensor:
        computed: Tensor = self.norm(self.convolution(pictures))
        return computed.relu()
