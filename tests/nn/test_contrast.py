from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from carso.nn import CNN, MLP, Contrast


@given(st.floats(0.01, 0.49), st.floats(-1, 1))
def test_black_and_white_withstand_a_change_and_greys_are_spread(eps: float, share: float) -> None:
    contrast, ink = Contrast(eps), torch.tensor([[[[0.0, 1.0]]]])
    torch.testing.assert_close(contrast((ink + share * eps).clamp(0, 1)), ink, atol=1e-5, rtol=0.0)
    grey = torch.tensor([[[[0.5, 0.5 + share * (0.5 - eps)]]]])
    spread = contrast(grey)
    torch.testing.assert_close(spread - 0.5, (grey - 0.5) / (1 - 2 * eps), atol=1e-4, rtol=1e-4)


def test_the_gradient_passes_the_clamp_by() -> None:
    images = torch.tensor([[[[0.0, 0.1, 0.5, 0.9, 1.0]]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(Contrast(0.3)(images).sum(), images)
    torch.testing.assert_close(gradient, torch.full_like(images, 2.5))


@pytest.mark.parametrize("eps", [-0.1, 0.5])
def test_an_eps_that_leaves_nothing_is_refused(eps: float) -> None:
    with pytest.raises(ValueError, match=r"contrast must be in \[0, 0\.5\), not"):
        Contrast(eps)


@pytest.mark.parametrize("build", [partial(CNN, groups=(2,)), MLP])
def test_a_network_with_contrast_begins_with_it(build: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    model = build(shape=(1, 10, 10), hidden=(5,), classes=3, contrast=0.2).eval()
    plain = build(shape=(1, 10, 10), hidden=(5,), classes=3).eval()
    plain.load_state_dict(model.state_dict())
    images: Tensor = torch.rand(2, 1, 10, 10)
    assert torch.equal(model(images), plain(Contrast(0.2)(images)))
