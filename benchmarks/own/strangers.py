"""Networks as strangers bring them: trained elsewhere, known by a function alone.

carso harden benchmarks.own.strangers:cifar10 --data cifar10 --eps 8/255 --minutes 30
"""

from torch import nn

import carso


def cifar10() -> nn.Module:
    """The robust residual network that ships inside `carso.load("cifar10")`, without what ships around it."""
    return carso.load("cifar10").classifier
