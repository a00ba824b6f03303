"""The thesis's fully connected classifier N.

    x -> [contrast ->] standardise -> flatten -> [Linear -> Mish -> BatchNorm -> Dropout] x 2 -> Linear -> logits

with 784-200-80-10 neurons. The representation r(x) of the thesis is the 200 + 80 activations after Mish and the
10 outputs.

`output="mish-log-softmax"` appends what the published experiment code did to the logits: Mish, then LogSoftmax. Mish
keeps every logit above -0.31, so the softmax of a confident answer saturates and the loss gradient fades: robustness to
gradient attacks then looks better than it is (masked gradients).

`maps` puts convolutions before the flattening, and `contrast` a `carso.nn.contrast` before everything, for classifiers
that the thesis does not have.

Source: E. Ballarin, MSc thesis, University of Trieste, 2022, section 3.3, and its published experiment code.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import nn

from carso.nn.chain import Chain
from carso.nn.contrast import Contrast
from carso.nn.maps import convolutions, features_of
from carso.nn.standardise import MNIST_MEAN, MNIST_STD, Standardise

Output = Literal["logits", "mish-log-softmax"]


class MLP(Chain):
    """A fully connected classifier of images.

    Args:
        shape: (C, H, W) of the images.
        hidden: neurons of each hidden layer.
        classes: number of classes.
        dropout: probability of zeroing a hidden activation in training.
        mean: of the training images, per channel.
        std: of the training images, per channel.
        output: plain logits, or the published code's Mish and LogSoftmax on top of them.
        maps: channels of convolutions before the hidden layers, as in `carso.nn.maps`.
        contrast: the change of a pixel that black and white withstand; 0 for none.

    Raises:
        ValueError: if the contrast is not in [0, 0.5).
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        hidden: Sequence[int] = (200, 80),
        classes: int = 10,
        dropout: float = 0.15,
        mean: Sequence[float] = MNIST_MEAN,
        std: Sequence[float] = MNIST_STD,
        output: Output = "logits",
        maps: Sequence[int] = (),
        contrast: float = 0.0,
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if contrast:
            layers["contrast"] = Contrast(contrast)
        layers["standardise"] = Standardise(mean, std)
        if maps:
            layers["maps"] = convolutions(shape, maps)
        layers["flatten"] = nn.Flatten()
        width = features_of(shape, maps)
        for i, neurons in enumerate(hidden, start=1):
            layers[f"linear{i}"] = nn.Linear(width, neurons)
            layers[f"mish{i}"] = nn.Mish()
            layers[f"norm{i}"] = nn.BatchNorm1d(neurons)
            layers[f"dropout{i}"] = nn.Dropout(dropout)
            width = neurons
        layers["logits"] = nn.Linear(width, classes)
        if output == "mish-log-softmax":
            layers["mish_logits"] = nn.Mish()
            layers["log_softmax"] = nn.LogSoftmax(dim=1)
        super().__init__(layers)
        self.options = {
            "shape": list(shape),
            "hidden": list(hidden),
            "classes": classes,
            "dropout": dropout,
            "mean": list(mean),
            "std": list(std),
            "output": output,
            "maps": list(maps),
            "contrast": contrast,
        }
