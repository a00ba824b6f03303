"""Parseval networks: weights are kept near orthonormal, so that no linear map stretches a perturbation.

    R(W) = beta / 4 ||W W^T - I||^2          of every linear map and convolution
    W   <- (1 + beta) W - beta W W^T W       after every step; singular values: s <- (1 + beta) s - beta s^3

Of s, 1 is the only stable point. The weights of a convolution are the matrix (outputs, inputs x kernel), and as every
pixel lies under kh kw of its kernels, what is kept near orthonormal is that matrix times sqrt(kh kw).

The network is any classifier, trained clean or adversarially. Its batch norms, whose scale nothing bounds, its
standardisation and its activations are left as they are: every linear map is held, the whole network is not. The
paper's convex sums, in the place of residual ones, concern networks with shortcuts and are left out; all rows take part
in every step.

Source: M. Cisse et al., Parseval networks: improving robustness to adversarial examples, ICML 2017.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carso.data import Dataset
from carso.errors import RecipeError
from carso.training.classifier import ClassifierStage
from carso.training.recipe import ClassifierTraining
from carso.types import Images

AFFINE = (nn.Linear, nn.modules.conv._ConvNd)


@torch.no_grad()
def retract(module: nn.Module, beta: float) -> None:
    """One step of every affine layer's weights towards orthonormal rows, or columns where there are fewer."""
    for layer in _affine(module):
        weight, matrix = layer.get_parameter("weight"), matrix_of(layer)
        drawn = (1 + beta) * matrix - beta * matrix @ matrix.T @ matrix
        weight.copy_((drawn / _overlap(layer)).view_as(weight))


def matrix_of(layer: nn.Module) -> Float[Tensor, "outputs inputs"]:
    """What is to be orthonormal: the weights of a layer, of a convolution times sqrt(kh kw)."""
    return layer.get_parameter("weight").flatten(1) * _overlap(layer)


def _overlap(layer: nn.Module) -> float:
    return math.sqrt(math.prod(getattr(layer, "kernel_size", ())))


def _affine(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, AFFINE)]


class ParsevalStage(ClassifierStage):
    """A classifier in training; every step begins with the retraction of the weights that the last one left.

    Args:
        classifier: the module to train.
        schedule: how, attacks included.
        train: labelled images.
        validation: held-out labelled images, for the history only.
        device: where to train.
        beta: of the retraction.

    Raises:
        RecipeError: if batches are to be taken in portions.
    """

    def __init__(
        self,
        classifier: nn.Module,
        schedule: ClassifierTraining,
        train: Dataset,
        validation: Dataset,
        device: torch.device,
        *,
        beta: float = 0.001,
    ) -> None:
        if schedule.accumulate > 1:
            raise RecipeError("parseval: accumulate: the retraction is of a whole step; leave it out")
        super().__init__("parseval", classifier, schedule, train, validation, device)
        self.beta = beta

    def loss(self, images: Images, indices: Tensor, part: int) -> Tensor:
        """That of the classifier, once its weights are retracted."""
        retract(self.module, self.beta)
        return super().loss(images, indices, part)
