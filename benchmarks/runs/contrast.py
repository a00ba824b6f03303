"""Classifiers behind contrast, as they came: what a defence by `carso.correction` is before its purifier is trained.

carso audit benchmarks.runs.contrast:thesis --data mnist --eps 0.15 0.3 --images 2000
"""

from benchmarks.runs import stranger
from torch import nn

import carso
from carso.nn import Contrast

EPS = 0.3


def thesis() -> nn.Module:
    """The N that ships for the thesis's table."""
    return nn.Sequential(Contrast(EPS), carso.load("mnist-thesis").classifier)


def public() -> nn.Module:
    """The robust convolutional network that others trained."""
    return nn.Sequential(Contrast(EPS), stranger.public())
