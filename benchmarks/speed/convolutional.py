"""The works of networks with convolutions: a ResNet-18 of width 32 on colour images, a robust CNN on digits.

The defence around that ResNet has the published convolutional purifier, fresh too.

The ResNet's weights are fresh and its images noise, which it is held to its own answers on: time does not depend on
what was learnt. The CNN is the one of `benchmarks/own/strangers.py`, fresh where its weights are not at hand.
"""

from __future__ import annotations

import torch
from benchmarks.own.strangers import WEIGHTS, SmallCNN, public
from benchmarks.speed import works
from benchmarks.speed.works import Climb, Work
from torch import Tensor, nn

from carso import data
from carso.data import Dataset
from carso.defence import CARSO
from carso.nn import ResNet
from carso.training.design import assembled, purifier_of, representation_of
from carso.training.reading import read_recipe
from carso.training.recipe import AttackSpec, ClassifierTraining

PGD_10 = Climb(8 / 255, 2 / 255, 10)
STEP = AttackSpec(attack="pgd", eps=8 / 255, steps=3, alpha=4 / 255)


def resnet() -> nn.Module:
    """ResNet-18 of width 32, fresh, its batch norms those of noise."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResNet(width=32).train()
        with torch.no_grad():
            network(torch.rand(64, 3, 32, 32))
    return network.eval()


def noise(n: int, network: nn.Module) -> Dataset:
    """Images (n, 3, 32, 32) of noise, labelled as the network takes them."""
    images = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels: Tensor = network(images).argmax(1)
    return Dataset("noise", images, labels, tuple("0123456789"))


def defence(samples: int) -> CARSO:
    """Of that ResNet and the purifier of `cifar10-published`, fresh: its vote is that of so many candidates."""
    recipe = read_recipe("cifar10-published").model_copy(update={"samples": samples})
    network, some = resnet(), Dataset("noise", torch.zeros(1, 3, 32, 32))
    representation = representation_of(recipe.purifier, network, some)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        purifier = purifier_of(recipe.purifier, representation, some).eval()
    return assembled(recipe, representation, purifier)


def vote_convolutional(n: int) -> Work:
    """The vote of 200 candidates on n images of noise."""
    return works.prediction(defence(200), noise(n, resnet()).images, limited=False)


def pgd_resnet(n: int) -> Work:
    """PGD-10 on that ResNet, n images of noise."""
    network = resnet()
    some = noise(n, network)
    return works.pgd(network, some.images, some.required_labels, PGD_10, ", ResNet-18 of width 32")


def pgd_cnn(n: int) -> Work:
    """PGD-40 on the CNN, n test images."""
    some, there = data.load("mnist", "test")[:n], WEIGHTS.exists()
    network = public() if there else SmallCNN().eval()
    of = "robust CNN" if there else "robust CNN, with fresh weights"
    return works.pgd(network, some.images, some.required_labels, on=f", {of}")


def training_resnet(n: int) -> Work:
    """n images of an epoch of PGD-AT, three steps, on that ResNet."""
    network = resnet()
    schedule = ClassifierTraining(epochs=1, rate=0.1, batch=128, clean=False, attacks=(STEP,))
    return works.training(network, noise(n, network), noise(100, network), schedule, PGD_10)
