"""VGG16 (Simonyan and Zisserman, 2014), configuration D: 138,357,544 parameters for 1,000 classes.

The layers and their names are torchvision's, so its weights fit. Importing torchvision's own class would take a worker
0.8 s longer to start.
"""

import torch
from torch import Tensor, nn

_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels, between poolings
_SIDE = 7  # of the feature maps, whatever the size of the picture


class VGG16(nn.Module):
    """Float32 [N,3,224,224] to logits [N,1000]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for block in _BLOCKS:
            for width in block:
                layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(_SIDE)
        self.classifier = nn.Sequential(
            nn.Linear(channels * _SIDE * _SIDE, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 1000),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute logits."""
        features = self.avgpool(self.features(pixels))
        logits: Tensor = self.classifier(torch.flatten(features, 1))
        return logits
