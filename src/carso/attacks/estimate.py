"""SPSA: the gradient estimated from losses alone, for models that have none.

    g = 1/m sum_j (L(x + h v_j) - L(x - h v_j)) / (2 h) v_j,    v_j uniform in {-1, 1}^d

    L    the loss of the model's logits
    h    half the difference between the two points
    m    number of directions, each of which costs two evaluations

The steps along g are those of annealed PGD. A loss that is flat on the scale of h, such as that of a hard vote far from
a boundary, gives no gradient here either.

Source: J. Uesato, B. O'Donoghue, A. van den Oord and P. Kohli, "Adversarial risk and the dangers of evaluating against
weak attacks", ICML 2018; J. C. Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient
approximation", IEEE Transactions on Automatic Control, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from carso.attacks.anneal import anneal
from carso.attacks.budget import bounded
from carso.attacks.losses import Loss, loss_of
from carso.attacks.objective import Objective, is_random, repeat
from carso.nn.chance import signs
from carso.types import Budget, Classifier, Images, Labels, at_least_one


@bounded
def spsa(
    model: Classifier,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    steps: int = 50,
    directions: int = 32,
    delta: float = 0.01,
    restarts: int = 1,
    targeted: bool = False,
    loss: str | Loss = "margin",
    start: Images | None = None,
    generator: Generator | None = None,
) -> Images:
    """Annealed PGD along a gradient estimated from the model's scores.

    Args:
        model: images to scores whose differences matter: logits, or shares of a vote.
        images: (B, C, H, W) in [0, 1].
        labels: true classes, or the classes to reach if `targeted`.
        budget: norm and radius.
        steps: number of steps of each run.
        directions: m, per step; a step costs 2 m evaluations of each image.
        delta: h, in units of the [0, 1] pixel.
        restarts: number of runs; each goes to the images that do not fool the model yet, or to all if that is random.
        targeted: descend the loss of `labels` instead of climbing it.
        loss: "cross_entropy", "margin", "dlr" or a callable (scores, labels) -> (B,).
        start: where the first run starts, (B, C, H, W); by default a random point of the ball.
        generator: source of the starts and directions.

    Returns:
        (B, C, H, W), within the budget and [0, 1].

    Raises:
        ValueError: if steps, directions, delta or restarts is not positive.
    """
    at_least_one(steps=steps, directions=directions, restarts=restarts)
    if not delta > 0:
        raise ValueError(f"delta must be positive, not {delta}")
    objective = Estimate(
        model,
        loss_of(loss, targeted),
        targeted,
        random=is_random(model, images),
        directions=directions,
        delta=delta,
        generator=generator,
    )

    def run(images: Images, labels: Labels, begin: Images) -> Images:
        return anneal(objective, images, labels, begin, budget, steps)

    return repeat(run, objective, images, labels, budget, restarts=restarts, start=start, generator=generator)


@dataclass(frozen=True)
class Estimate(Objective):
    """An objective whose gradient is estimated.

    Args:
        directions: m.
        delta: h.
        generator: source of the directions.
    """

    directions: int = 32
    delta: float = 0.01
    generator: Generator | None = None

    def __call__(self, images: Images, labels: Labels) -> tuple[Tensor, Images, Tensor]:
        """The loss (B,), the estimate of its gradient (B, C, H, W), and whether the model is fooled (B,)."""
        loss, fooled = self.value(images, labels)
        gradient = torch.zeros_like(images)
        for _ in range(self.directions):
            v = signs(images.shape, images, self.generator)
            ahead, _ = self.value((images + self.delta * v).clamp(0, 1), labels)
            behind, _ = self.value((images - self.delta * v).clamp(0, 1), labels)
            rise = (ahead - behind).nan_to_num(0.0, 0.0, 0.0)
            gradient += (rise / (2 * self.delta * self.directions)).view(-1, 1, 1, 1) * v
        return loss, gradient, fooled
