"""VGG16 (Simonyan and Zisserman, 2014), configuration D: 138,357,544 parameters for 1,000 classes."""

from torchvision.models.vgg import VGG, cfgs, make_layers


class VGG16(VGG):  # type: ignore[misc] # torchvision ships no types
    """Torchvision's VGG16: float32 [N,3,224,224] to logits [N,1000]."""

    def __init__(self) -> None:
        super().__init__(make_layers(cfgs["D"]))
