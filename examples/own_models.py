"""Classifiers as people have them, each behind a function that `carso harden own_models:NAME` takes.

    resnet             residual additions and in-place activations, no batch norm left in train mode
    timm_resnet        a model of timm's (`pip install timm`)
    transformers_vit   a vision transformer of Hugging Face's, which answers with a `ModelOutput`
    normalised         a network that wants its input standardised

Each is as small as its kind allows, and takes the weights that `carso train classifier` has left in `own/NAME` of the
working folder, if it has: a recipe whose `classifier.factory` is `own_models:NAME` and that has a section `adversarial`
trains it.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from carso.nn import Adapted

CLASSES = 10
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Residual(nn.Module):
    """Two convolutions beside what passes by."""

    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(entering, leaving, 3, stride, 1, bias=False),
            nn.BatchNorm2d(leaving),
            nn.ReLU(inplace=True),
            nn.Conv2d(leaving, leaving, 3, 1, 1, bias=False),
            nn.BatchNorm2d(leaving),
        )
        changes = stride != 1 or entering != leaving
        self.passing = nn.Conv2d(entering, leaving, 1, stride, bias=False) if changes else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, entering, H, W) to (B, leaving, H / stride, W / stride)."""
        out: Tensor = self.relu(self.body(maps) + self.passing(maps))
        return out


def small_resnet() -> nn.Module:
    """Logits (B, 10) of images (B, 3, H, W); 78 thousand weights, untrained."""
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
    groups = Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)
    return nn.Sequential(stem, *groups, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))


def resnet() -> nn.Module:
    """A residual network of images in [0, 1]."""
    return trained(small_resnet(), "resnet")


def normalised() -> nn.Module:
    """The same network, which was trained on standardised images."""
    return trained(Adapted(small_resnet(), MEAN, STD), "normalised")


def timm_resnet() -> nn.Module:
    """timm's ResNet-10-T, which wants standardised images."""
    import timm

    return trained(Adapted(timm.create_model("resnet10t", num_classes=CLASSES), MEAN, STD), "timm_resnet")


def transformers_vit() -> nn.Module:
    """Hugging Face's ViT, two blocks deep, for images of 32 x 32."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=32,
        patch_size=4,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        num_labels=CLASSES,
    )
    return trained(Adapted(ViTForImageClassification(config), (0.5,) * 3, (0.5,) * 3), "transformers_vit")


def trained(network: nn.Module, name: str) -> nn.Module:
    """The network with the weights of `own/NAME/classifier.safetensors`, if there are any."""
    path = Path("own") / name / "classifier.safetensors"
    if path.exists():
        network.load_state_dict(load_file(path))
    return network
