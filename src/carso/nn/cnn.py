"""The small convolutional network in which adversarial training of digits is compared.

    x -> contrast -> standardise -> [Conv 3x3 -> ReLU -> Conv 3x3 -> ReLU -> max over 2x2] x G -> flatten
      -> [Linear -> ReLU] x 2 -> Linear -> logits

without padding, with G = 2 groups of 32 and 64 channels and 200 neurons in each hidden layer: 312,202 weights for
28 x 28 digits, those of TRADES. The contrast (`carso.nn.contrast`) is ours, and may be left out. All non-linearities
are modules of their own, so that their activations can be read.

Sources: N. Carlini and D. Wagner, Towards evaluating the robustness of neural networks, S&P 2017, table I; H. Zhang et
al., Theoretically principled trade-off between robustness and accuracy, ICML 2019, which trained it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import nn

from carso.nn.chain import Chain
from carso.nn.contrast import Contrast
from carso.nn.standardise import MNIST_MEAN, MNIST_STD, Standardise


class CNN(Chain):
    """A small convolutional classifier of images.

    Args:
        shape: (C, H, W) of the images.
        groups: channels of each group's two convolutions; its pooling halves what is left of height and width.
        hidden: neurons of each hidden layer.
        classes: number of classes.
        mean: of the training images, per channel.
        std: of the training images, per channel.
        contrast: the change of a pixel that black and white withstand; 0 for none.

    Raises:
        ValueError: if the images are too small for so many groups, or the contrast is not in [0, 0.5).
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        groups: Sequence[int] = (32, 64),
        hidden: Sequence[int] = (200, 200),
        classes: int = 10,
        mean: Sequence[float] = MNIST_MEAN,
        std: Sequence[float] = MNIST_STD,
        contrast: float = 0.0,
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if contrast:
            layers["contrast"] = Contrast(contrast)
        layers["standardise"] = Standardise(mean, std)
        width, (height, across) = shape[0], shape[1:]
        for i, channels in enumerate(groups, 1):
            layers[f"group{i}"] = _group(width, channels)
            width, height, across = channels, (height - 4) // 2, (across - 4) // 2
        if min(height, across) < 1:
            raise ValueError(f"images of {shape[1]} x {shape[2]} are too small for {len(groups)} groups")
        layers["flatten"] = nn.Flatten()
        width *= height * across
        for i, neurons in enumerate(hidden, 1):
            layers[f"linear{i}"], layers[f"relu{i}"] = nn.Linear(width, neurons), nn.ReLU()
            width = neurons
        layers["output"] = nn.Linear(width, classes)
        super().__init__(layers)
        self.options: dict[str, Any] = {
            "shape": list(shape),
            "groups": list(groups),
            "hidden": list(hidden),
            "classes": classes,
            "mean": list(mean),
            "std": list(std),
            "contrast": contrast,
        }


def _group(entering: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(entering, channels, 3),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(channels, channels, 3),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
        )
    )
