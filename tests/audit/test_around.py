import math

import pytest
import torch
from torch import Tensor

from carso.attacks.eot import Expectation
from carso.audit.around import Around, distances
from carso.types import Budget


@pytest.mark.parametrize(
    ("budget", "alike"), [(Budget("Linf", 0.3), 0.3), (Budget("L2", 2.8), 0.1), (Budget("L1", 78.4), 0.1)]
)
def test_distances_are_shares_of_the_change_of_every_pixel_that_the_ball_holds(budget: Budget, alike: float) -> None:
    assert distances(budget, 784) == pytest.approx((alike / 30, alike / 10))


@pytest.mark.whole
def test_the_gradient_is_the_average_over_the_points_around() -> None:
    """Of x + sin(w x) it is 1 + w cos(w x) sin(w r) / (w r), and 1 where a whole period lies within 2 r."""
    rate, images = 2 * math.pi / 0.02, torch.linspace(0.1, 0.9, 7).reshape(7, 1, 1, 1).requires_grad_()

    def candidates(images: Tensor, samples: int) -> Tensor:
        value = images.flatten(1) + (rate * images.flatten(1)).sin()
        return torch.cat([value, torch.zeros_like(value)], 1)[:, None].expand(-1, samples, -1)

    torch.manual_seed(0)
    for distance in (0.01, 0.004):
        logits = Expectation(Around(candidates, distance), 40_000, lambda logits: logits.mean(1))(images)
        assert logits.shape == (7, 2)
        (slopes,) = torch.autograd.grad(logits[:, 0].sum(), images)
        expected = 1 + (rate * images.detach()).cos() * math.sin(rate * distance) / distance
        assert (slopes - expected).abs().max() < 5 * rate / math.sqrt(40_000)
    assert expected.sub(1).abs().max() > 50
