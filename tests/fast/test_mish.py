from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from carso.fast.mish import Mish, mish

GRID = torch.linspace(-100, 100, 20001)


def torchs() -> tuple[Tensor, Tensor]:
    """Mish and its derivative on the grid, by torch in float64."""
    h = GRID.double().requires_grad_()
    value = F.mish(h)
    return value.detach().float(), torch.autograd.grad(value.sum(), h)[0].float()


def test_mish_is_mish() -> None:
    torch.testing.assert_close(mish(GRID.clone()), torchs()[0], rtol=1e-6, atol=1e-7)


def test_the_layer_is_mish_with_its_derivative_and_spares_what_it_is_given() -> None:
    h, upstream = GRID.clone().requires_grad_(), torch.cos(GRID)
    value = Mish()(h)
    (gradient,) = torch.autograd.grad(value, h, upstream)
    torch.testing.assert_close(value.detach(), torchs()[0], rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(gradient, torchs()[1] * upstream, rtol=2e-5, atol=1e-6)
    assert torch.equal(h.detach(), GRID)
