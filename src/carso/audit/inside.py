"""What comes before scores whose gradient is not finite: the logits of a module inside the target.

    s = a(g(x)_1, ..., g(x)_m)    scores of the target, a being its aggregation
    g(x)_i                        what the i-th call of a submodule g returns, one row per image, one column per class

Where the gradient of s is NaN or infinite, as behind `carso.vote.peel`, that of g need not be. It is what is attacked
then, by log-probabilities averaged over the calls; verdicts stay the target's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from carso.attacks.eot import mean_log_probability
from carso.attacks.gradient import input_gradient
from carso.attacks.losses import cross_entropy, margin
from carso.audit.finite import non_finite
from carso.audit.surface import has_gradient
from carso.errors import ModelError
from carso.evaluation.queries import checked_query
from carso.types import Classifier, Images, Labels, Logits


@dataclass(frozen=True)
class Inside:
    """A submodule's answers within a module's, as a classifier.

    Args:
        model: the whole.
        name: of the submodule.
        module: the submodule.
        classes: how many the whole knows.
    """

    model: nn.Module
    name: str
    module: nn.Module
    classes: int

    def __call__(self, images: Images) -> Logits:
        """Log-probabilities (B, classes) averaged over the submodule's calls, differentiable in images (B, C, H, W).

        Raises:
            ModelError: if it returned no scores of these images.
        """
        with _listening(self.module) as heard:
            checked_query(self.model, images)
        scores = [each for each in heard if isinstance(each, Tensor) and each.shape == (len(images), self.classes)]
        if not scores:
            raise ModelError(f"{self.name} returns no scores ({len(images)}, {self.classes})")
        return mean_log_probability(torch.stack(scores, dim=1))


@contextmanager
def _listening(module: nn.Module) -> Iterator[list[Any]]:
    """Whatever the module returns meanwhile."""
    heard: list[Any] = []
    handle = module.register_forward_hook(lambda _, inputs, output: heard.append(output))
    try:
        yield heard
    finally:
        handle.remove()


def inside(subject: Any, images: Images, classes: int) -> Inside | None:
    """The outermost submodule that returns scores of images (B, C, H, W) with a finite gradient; None without one."""
    modules = list(subject.named_modules())[1:] if isinstance(subject, nn.Module) else []
    found = (Inside(subject, name, module, classes) for name, module in modules)
    return next((each for each in found if has_gradient(each, images) and not broken(each, images).any()), None)


def broken(model: Classifier, images: Images, labels: Labels | None = None) -> Tensor:
    """On which images (B,) the gradient of the cross-entropy or the margin is not finite.

    Both lead away from the labels, or else from the model's own answer.
    """
    if labels is None:
        with torch.no_grad():
            labels = model(images).argmax(1)
    by_loss = [non_finite(input_gradient(model, images, labels, loss)) for loss in (cross_entropy, margin)]
    return by_loss[0] | by_loss[1]
