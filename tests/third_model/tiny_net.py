"""A third classifier, small enough for unit tests: one module, one class."""

from torch import Tensor, nn


class TinyNet(nn.Module):
    """Float32 [N,3,32,32] to logits [N,10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4)
        )
        self.classifier = nn.Linear(8 * 4 * 4, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(pixels).flatten(1))
        return logits
