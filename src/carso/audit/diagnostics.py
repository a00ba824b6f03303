"""Measurements on a few images, from which the checks are made and the strongest attack is tuned.

All of them are taken on the tuning: the first images that the target answers rightly when they are clean.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor

from carso.attacks.ball import uniform
from carso.attacks.eot import Candidates, Expectation
from carso.attacks.gradient import input_gradient
from carso.attacks.losses import Loss, cross_entropy, margin
from carso.audit.around import distances
from carso.audit.effort import Sizes
from carso.audit.finite import mended, non_finite
from carso.audit.inside import broken
from carso.audit.plan import Tuning
from carso.audit.tuning import Tuner, percent
from carso.audit.verdict import Judge
from carso.evaluation.results import Count, Percent
from carso.progress import progress
from carso.surrogate import SAMPLES
from carso.types import Budget, Classifier, Images, Labels

VANISHED = 1e-20
"""Largest component of a gradient that counts as none: the loss is flat to float32."""

OVERFLOW = 88.0
"""Gap of two logits above which the smaller one's probability is zero in float32."""

SQUEEZED = 0.05
"""Share of the range of the logits within which the lower half of them lies if the outputs are clipped from below."""

STEP = 1e-3
"""Length of the finite difference, in units of the [0, 1] pixel."""

CONTRADICTED, UNKEPT = 0.25, 0.6
"""Largest |m - g| / (|m| + |g|) of a measured slope m and the gradient's g: over `STEP`, and over a longer way, where
either may be four times the other."""

MISLED = 20.0
"""Share (%) of images whose gradient leads elsewhere, above which the attacks are misled."""

FEW = 20
"""Images at a time whose own scores are differentiated, all of a defence's candidates at once."""

CALLS, ASKED = 10, 20
"""Calls over which the spread is taken; candidates by which the surrogate names a class, to compare with verdicts."""

Radius = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(e-\d+)?$")]
"""A number as a key."""


class Diagnostics(BaseModel):
    """What was measured; accuracies and shares in percent of the tuning images.

    `zero_gradients` is the share of images whose cross-entropy has zero gradient; `non_finite` that of images on which
    the gradient of either loss is NaN or infinite. `flat` is the share whose margin has zero gradient both at the image
    and at a random point of the ball around it; what is not finite counts as 0. `masked` is the share on which the
    gradient of the target's own scores is not finite, if the attacks follow what comes before them.

    `by_loss`, `by_eot` and `by_steps` are accuracies after one run of annealed PGD with that loss, number of candidates
    per gradient or number of steps. `by_eps` are accuracies after a run on each loss, and after targeted runs if the
    target can reject images. `spread` is the standard deviation of the true class's probability over calls.

    `finite_differences` is the share of images on which a finite difference of the margin contradicts its gradient;
    `unkept` the same over the length of an attack's step. `remembered` is the number of points that an untouched copy
    loses on the attacked images.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    images: Count
    zero_gradients: Percent
    saturated: Percent
    spread: Annotated[float, Field(ge=0)]
    finite_differences: Percent
    disagreement: Percent
    unbounded: Percent
    flat: Percent = 100.0
    non_finite: Percent = 0.0
    masked: Percent = 0.0
    unkept: Percent = 0.0
    remembered: Percent = 0.0
    by_loss: dict[str, Percent] = {}
    by_eot: dict[int, Percent] = {}
    by_steps: dict[int, Percent] = {}
    by_eps: dict[Radius, Percent] = {}

    @property
    def blind(self) -> bool:
        """Whether no gradient is worth following."""
        return self.flat > 99

    @property
    def misled(self) -> float:
        """Share of images whose gradient is not the slope, be it at the image or over some distance."""
        return max(self.finite_differences, self.unkept)


class DiagnosticRun:
    """Measures a target on the tuning images.

    Args:
        judge: passes verdicts on the target.
        images: the tuning images, (B, C, H, W), on the target's device.
        labels: their classes, likewise.
        budget: of the attacks.
    """

    def __init__(self, judge: Judge, images: Images, labels: Labels, budget: Budget) -> None:
        self.judge, self.target = judge, judge.target
        self.images, self.labels, self.budget = images, labels, budget

    def measure(self, sizes: Sizes, eot: int | None, generator: Generator) -> tuple[Diagnostics, Tuning]:
        """Everything, and the tuning of the strongest attack.

        Args:
            sizes: among which candidates and steps are chosen.
            eot: candidates per gradient that the caller insists on.
            generator: of the attacks.
        """
        candidates = self.target.candidates
        if candidates is None:
            return self._without_gradient(), Tuning()
        by_entropy, by_margin = self._gradient(candidates, cross_entropy), self._gradient(candidates, margin)
        infinite = non_finite(by_entropy) | non_finite(by_margin)
        if infinite.any():
            candidates = mended(candidates)
            by_margin = self._gradient(candidates, margin)
        flat = vanished(by_margin)
        if flat.any():
            flat = flat & vanished(self._gradient(candidates, margin, self._drawn(generator.initial_seed())))
        diagnostics = Diagnostics(
            images=len(self.images),
            zero_gradients=percent(vanished(by_entropy)),
            flat=percent(flat),
            non_finite=percent(infinite),
            masked=self._masked(),
            saturated=self._saturated(self._once(candidates)),
            spread=self._spread(),
            finite_differences=self._finite_differences(STEP, CONTRADICTED),
            unkept=max(self._finite_differences(way, UNKEPT) for way in distances(self.budget, self.images[0].numel())),
            disagreement=0.0,
            unbounded=100.0,
        )
        if diagnostics.blind:
            return diagnostics, Tuning()
        return self._attacked(diagnostics, candidates, sizes, eot, generator)

    def _once(self, candidates: Candidates) -> Expectation:
        return Expectation(candidates, SAMPLES if self.target.random_surrogate else 1)

    def _gradient(self, candidates: Candidates, loss: Loss, images: Images | None = None) -> Images:
        images = self.images if images is None else images
        return input_gradient(self._once(candidates), images, self.labels, loss)

    def _drawn(self, seed: int) -> Images:
        """A point of the ball around each image, by a generator of its own, so that the attacks draw what they did."""
        return uniform(self.images, self.budget, Generator().manual_seed(seed))

    def _masked(self) -> float:
        """Share of images on which following the target's own scores means to stand still."""
        if self.target.own is None:
            return 0.0
        own, parts = self.target.own, zip(self.images.split(FEW), self.labels.split(FEW), strict=True)
        return percent(torch.cat([broken(own, *part) for part in parts]))

    def _without_gradient(self) -> Diagnostics:
        return Diagnostics(
            images=len(self.images),
            zero_gradients=100.0,
            saturated=self._saturated(self.target.scores),
            spread=self._spread(),
            finite_differences=0.0,
            disagreement=0.0,
            unbounded=100.0,
        )

    def _attacked(
        self, diagnostics: Diagnostics, candidates: Candidates, sizes: Sizes, eot: int | None, generator: Generator
    ) -> tuple[Diagnostics, Tuning]:
        with progress(f"tuning for {self.budget}") as bar:
            rivals = min(sizes.rivals, self.target.classes - 1) if self.target.turns_away else 0
            tuner = Tuner(self.judge, candidates, self.images, self.labels, self.budget, generator, bar, rivals)
            bar.total = tuner.trials(sizes, eot)
            tuning, tried = tuner.tune(sizes, eot)
            attacked, _ = tuner.attack(tuning)
            by_eps, unbounded = tuner.by_eps(tuning), tuner.unbounded(tuning, sizes.unbounded)
        for within in by_eps.values():
            unbounded = unbounded & within
        disagreement = self._disagreement(Expectation(candidates, ASKED), attacked)
        measured: dict[str, Any] = {
            **tried,
            "by_eps": {eps: percent(standing) for eps, standing in by_eps.items()},
            "unbounded": percent(unbounded),
            "disagreement": disagreement,
        }
        return diagnostics.model_copy(update=measured), tuning

    def _saturated(self, model: Classifier) -> float:
        """Share of images whose outputs say less than logits do."""
        with torch.no_grad():
            logits = model(self.images)
        if self.target.probabilities:
            return 100.0
        return percent(overflowing(logits) | squeezed(logits))

    def _spread(self) -> float:
        """Standard deviation, over `CALLS` calls, of the probability of the true class, averaged over the images."""
        if not self.target.random:
            return 0.0
        with torch.no_grad():
            p = torch.stack([self.target.scores(self.images).softmax(1) for _ in range(CALLS)])
        return p.gather(2, self.labels.expand(CALLS, -1).unsqueeze(2)).std(0).mean().item()

    def _finite_differences(self, step: float, tolerance: float) -> float:
        """Share of images on which a finite difference of the margin contradicts the gradient that attacks follow.

        Zero in half precision, whose rounding is as large as the difference.
        """
        known, exact = self.target.known, self.target.exact
        if known is None or exact is None or 10 * self.target.rounding > STEP:
            return 0.0
        return percent(mistaken(known(0, 1), exact(0, 1), self.images, self.labels, step, tolerance))

    def _disagreement(self, surrogate: Classifier, attacked: Images) -> float:
        """Share of images, clean and attacked, on which some class gets more verdicts than the surrogate's class."""
        both = torch.cat([self.images, attacked])
        with torch.no_grad():
            seen = surrogate(both).argmax(1).cpu()
        return percent(self.judge.outvoted(both, seen))


def vanished(gradients: Images) -> Tensor:
    """Which images' (B,) gradients are none in float32."""
    return gradients.flatten(1).abs().amax(1) <= VANISHED


def overflowing(logits: Tensor) -> Tensor:
    """Which images' (B,) best logit is so far ahead that all other probabilities are zero in float32."""
    first, second = logits.topk(2, dim=1).values.unbind(1)
    return first - second > OVERFLOW


def squeezed(logits: Tensor) -> Tensor:
    """Which images' (B,) lower half of the logits is clipped: it fills next to nothing of their range."""
    if logits.shape[1] < 4:
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    ordered = logits.sort(1).values
    middle = ordered[:, logits.shape[1] // 2 - 1]
    return middle - ordered[:, 0] < SQUEEZED * (ordered[:, -1] - ordered[:, 0])


def mistaken(
    model: Classifier, exact: Classifier, images: Images, labels: Labels, step: float, tolerance: float
) -> Tensor:
    """Which images' (B,) margin changes along the model's gradient by another amount than the gradient says.

    A central difference of `step` along the sign of the gradient, taken of the exact model, at the image drawn that far
    into the box; images without gradient are not counted.
    """
    inside = images.clamp(step, 1 - step)
    gradient = input_gradient(model, inside, labels, margin)
    direction = gradient.sign()
    with torch.no_grad():
        ahead, behind = (margin(exact((inside + side * step * direction).clamp(0, 1)), labels) for side in (1, -1))
    measured = (ahead - behind) / (2 * step)
    expected = (gradient * direction).flatten(1).sum(1)
    wrong = (measured - expected).abs() > tolerance * (measured.abs() + expected.abs())
    return wrong & (expected > VANISHED)
