"""k-winners-take-all: of a layer's activations only the k largest pass.

    phi_k(a)_j = a_j if a_j is among the k largest components of a, else 0      k = floor(gamma n), at least 1

n: neurons of the layer, all channels and positions of a map together. The network jumps wherever the set of winners
changes, and between the jumps its gradient says little of what lies beyond them. That is the defence.

What an attacker differentiates in its place (`surrogate`) has the same answers; only in its backward pass do winners
and losers blend:

    phi~(a)_j = a_j s((a_j - t) / (w d))      t: half-way between the k-th and the next, s: the logistic function,
                                              d: standard deviation of the layer's a, w: `WIDTH`

Trained like any classifier, by `carso.training.classifier`, clean or adversarially.

Source: C. Xiao, P. Zhong and C. Zheng, Enhancing adversarial defense by k-winners-take-all, ICLR 2020.
"""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor, nn

from carso.errors import ModelError
from carso.nn import evaluating, query
from carso.representation import hidden, nonlinearities
from carso.types import Images, Logits, check_images

WIDTH = 0.3
"""w."""

DIGITS = 9
"""To which gamma n is exact: 0.29 of 100 neurons are 29, though their product in floats is less."""


class Winners(nn.Module):
    """phi_k.

    Args:
        gamma: share of the neurons that win, in (0, 1).

    Raises:
        ValueError: if gamma is not such a share.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        if not 0 < gamma < 1:
            raise ValueError(f"gamma, the share of winners, must lie in (0, 1), not {gamma}")
        self.gamma = gamma

    def extra_repr(self) -> str:
        """How many win."""
        return f"gamma={self.gamma}"

    def forward(self, a: Tensor) -> Tensor:
        """Activations (B, ...) with all but the k largest of each row 0."""
        rows = a.flatten(1)
        winners = rows.topk(self.k(rows.shape[1]), dim=1)
        return torch.zeros_like(rows).scatter(1, winners.indices, winners.values).view_as(a)

    def k(self, neurons: int) -> int:
        """How many win of so many."""
        return max(1, int(round(self.gamma * neurons, DIGITS)))


class BlendedWinners(Winners):
    """phi_k forward, phi~ backward."""

    def forward(self, a: Tensor) -> Tensor:
        """As `Winners`, with the gradient of the blend."""
        rows = a.flatten(1)
        k = self.k(rows.shape[1])
        largest = rows.detach().topk(min(k + 1, rows.shape[1]), dim=1).values
        threshold = largest[:, k - 1 :].mean(1, keepdim=True)
        width = WIDTH * rows.detach().std(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
        blend = (rows * torch.sigmoid((rows - threshold) / width)).view_as(a)
        return blend + (super().forward(a) - blend).detach()


class WinnersTakeAll(nn.Module):
    """A classifier whose non-linearities are winner-take-all.

    Args:
        classifier: images (B, C, H, W) in [0, 1] to logits (B, classes); a copy of it gets the activations.
        gamma: share of the neurons that win.

    Raises:
        ModelError: if the classifier has no activation modules.
    """

    def __init__(self, classifier: nn.Module, gamma: float = 0.1) -> None:
        super().__init__()
        names = nonlinearities(classifier)
        if not names:
            raise ModelError(hidden(classifier))
        self.network = copy.deepcopy(classifier)
        replaced = {self.network.get_submodule(name) for name in names}
        for name, module in [*self.network.named_modules(remove_duplicate=False)]:
            if module in replaced:
                self.network.set_submodule(name, Winners(gamma))

    def forward(self, images: Images) -> Logits:
        """Logits (B, classes) of images (B, C, H, W) in [0, 1]."""
        logits: Tensor = self.network(images)
        return logits

    def surrogate(self, images: Images) -> Logits:
        """The same logits, with the gradient of the blend."""
        check_images(images)
        blended = _blended(self.network)
        with evaluating(blended):
            return query(blended, images)


def _blended(network: nn.Module) -> nn.Module:
    """The network with the same weights, not copies, and blended winners."""
    shared = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    twin = copy.deepcopy(network, shared)
    for name, module in network.named_modules():
        if isinstance(module, Winners):
            twin.set_submodule(name, BlendedWinners(module.gamma))
    return twin
