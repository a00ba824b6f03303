"""Random noise of an attack's budget: what chance alone does, the least that an attack must beat.

    x' = x + eps u

    Linf    every component of u is -1 or 1
    L2      u is uniform on the unit sphere
    L1      a fiftieth of u's components, drawn at random, are alike but for their signs; the others are 0

The loudest noise of the ball: the corners of the box and the surface of the ball, before [0, 1] cuts them off.
"""

from __future__ import annotations

import torch
from torch import Generator

from carso.attacks.ball import unit
from carso.attacks.budget import bounded, reach
from carso.attacks.losses import margin
from carso.attacks.objective import Objective, Run, is_random, repeat
from carso.nn.chance import home
from carso.types import Budget, Classifier, Images, Labels, at_least_one


@bounded
def noise(
    model: Classifier,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    draws: int = 1,
    generator: Generator | None = None,
) -> Images:
    """Noise on the surface of the ball.

    Args:
        model: images to logits; needed only to choose among several draws.
        images: (B, C, H, W) in [0, 1].
        labels: true classes.
        budget: norm and radius.
        draws: tries; the first that fools the model is kept, else that of the largest margin; of a random model, of
            all draws that of the largest margin, among those that fool it if there are any.
        generator: source of the noise.

    Returns:
        (B, C, H, W), within the budget and [0, 1].

    Raises:
        ValueError: if draws is not positive.
    """
    at_least_one(draws=draws)
    run = _draw(budget, generator)
    if draws == 1:
        return run(images, labels, images)
    objective = Objective(model, margin, random=is_random(model, images))
    return repeat(run, objective, images, labels, budget, restarts=draws, start=None, generator=generator)


def _draw(budget: Budget, generator: Generator | None) -> Run:
    def run(images: Images, labels: Labels, start: Images) -> Images:
        source = home(generator, images.device)
        u = torch.randn(images.shape, generator=generator, device=source, dtype=images.dtype).to(images.device)
        return (images + reach(images, budget) * unit(u, budget.norm)).clamp(0, 1)

    return run
