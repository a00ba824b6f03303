"""Networks as strangers bring them: trained elsewhere, known by a function alone.

    carso harden benchmarks.own.strangers:cifar10 --data cifar10 --eps 8/255 --minutes 30
    carso reproduce benchmarks/own/stranger.yaml --out out/stranger --test-images 2000

The second brings `public`, a robust convolutional network for digits.
"""

from collections import OrderedDict
from functools import partial
from pathlib import Path

import torch
from torch import nn

import carso

WEIGHTS = Path(__file__).parents[3] / "shared/data/weights/trades_mnist_smallcnn.pt"


def cifar10() -> nn.Module:
    """The robust residual network that ships inside `carso.load("cifar10")`, without what ships around it."""
    return carso.load("cifar10").classifier


def public(weights: Path = WEIGHTS) -> nn.Module:
    """The CNN that the authors of TRADES trained on MNIST, from their file."""
    model = SmallCNN()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval()


class SmallCNN(nn.Module):
    """The architecture of those weights, by its names."""

    def __init__(self) -> None:
        super().__init__()
        conv, pool = nn.Conv2d, partial(nn.MaxPool2d, 2)
        self.feature_extractor = nn.Sequential(
            OrderedDict(
                conv1=conv(1, 32, 3),
                relu1=nn.ReLU(),
                conv2=conv(32, 32, 3),
                relu2=nn.ReLU(),
                pool1=pool(),
                conv3=conv(32, 64, 3),
                relu3=nn.ReLU(),
                conv4=conv(64, 64, 3),
                relu4=nn.ReLU(),
                pool2=pool(),
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(1024, 200),
                relu_fc1=nn.ReLU(),
                fc2=nn.Linear(200, 200),
                relu_fc2=nn.ReLU(),
                fc3=nn.Linear(200, 10),
            )
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.feature_extractor(images).flatten(1))
        return logits
