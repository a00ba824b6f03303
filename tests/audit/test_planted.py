"""Defences whose robustness is an illusion: flagged by the right check, and broken by the right attack."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.attacks.conftest import switched_by
from tests.audit.audits import EPS, raised, run
from tests.audit.conftest import blobs
from torch import Tensor, nn
from torch.nn import functional as F

from carso.attacks import annealed
from carso.audit.effort import SPARSE
from carso.audit.results import BudgetResult
from carso.data import Dataset
from carso.nn.contrast import Contrast
from carso.types import Budget

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("small")]


class Scaled(nn.Module):
    """Logits times 10,000: the softmax overflows and the cross-entropy loses its gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return 1e4 * self.model(images)


class HardVote:
    """A purifier that blurs at random, and the votes of its candidates; nothing to differentiate."""

    def __init__(self, model: nn.Module, samples: int = 15) -> None:
        self.model, self.samples = model, samples

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        votes = [self.model(images + 0.05 * torch.randn_like(images)).argmax(1) for _ in range(self.samples)]
        return F.one_hot(torch.stack(votes), 10).float().mean(0)


class RandomNoise(nn.Module):
    """Noise on the input of the classifier, new in every call."""

    def __init__(self, model: nn.Module, scale: float = 0.1) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images + self.scale * torch.randn_like(images))
        return logits


class RandomResize(nn.Module):
    """The image shrunk and put back at random, per call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        whole = images.shape[2]
        side = int(torch.randint(whole - 2, whole + 1, ()))
        free = whole - side
        top, left = int(torch.randint(free + 1, ())), int(torch.randint(free + 1, ()))
        resized = F.interpolate(images, size=(side, side), mode="bilinear")
        logits: Tensor = self.model(F.pad(resized, (left, free - left, top, free - top)))
        return logits


class Quantised(nn.Module):
    """Four grey levels before the classifier: the gradient is zero everywhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model((images * 3).round() / 3)
        return logits


class Jpeg(nn.Module):
    """A front end out of torch's sight, as an image codec is, before a network whose weights can be trained."""

    def __init__(self, model: nn.Module, *, asks: bool) -> None:
        super().__init__()
        self.model, self.asks = copy.deepcopy(model).requires_grad_(), asks

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.numpy() if self.asks else images.detach().numpy()
        logits: Tensor = self.model(torch.from_numpy((pixels * 3).round() / 3))
        return logits


class Peel(nn.Module):
    """The published CARSO's aggregation of 8 candidates, over 8 copies: log(p / (1 - p)), p = softmax(sum_i exp l_i).

    With the same answers as the model by itself, it is infinite, and its gradient NaN, where p is rounded to 1.
    """

    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def candidates(self, images: Tensor) -> Tensor:
        return torch.stack([self.scale * self.model(images) for _ in range(8)])

    def forward(self, images: Tensor) -> Tensor:
        p = self.candidates(images).exp().sum(0).softmax(1)
        return torch.log(p / (1 - p))


class PeelSeenThrough(Peel):
    """The same, and what comes before its aggregation."""

    def surrogate(self, images: Tensor) -> Tensor:
        return self.candidates(images).mean(0)


class RootOfZero(nn.Module):
    """Nothing is added to the logits, but its gradient is 0 * infinity."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits + 0 * torch.sqrt(0 * images).sum((1, 2, 3))[:, None]


class QuantisedPurifier(Quantised):
    """The same, whose parts are known."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.classifier = model

    def purify(self, images: Tensor) -> Tensor:
        return (images * 3).round() / 3


def test_mish_output(mish: nn.Module, dataset: Dataset) -> None:
    result = run(mish, dataset)
    assert "saturated-outputs" in raised(result)
    assert result.budgets[0].worst_case.accuracy < 5


def test_scaled_logits(plain: nn.Module, dataset: Dataset) -> None:
    result = run(Scaled(plain), dataset)
    assert {"saturated-outputs", "zero-gradients"} <= raised(result)
    (found,) = result.budgets
    pgd, annealed = found.find("pgd"), found.find("pgd-annealed")
    assert pgd is not None
    assert annealed is not None
    assert annealed.options["loss"] == "margin"
    assert annealed.result.accuracy < 10 < 50 < pgd.result.accuracy


def test_probabilities(plain: nn.Module, dataset: Dataset) -> None:
    result = run(lambda images: plain(images).softmax(1), dataset, name="softmax")
    assert raised(result) == {"saturated-outputs"}
    assert result.budgets[0].worst_case.accuracy < 5


def test_hard_vote_without_surrogate(plain: nn.Module, other: nn.Module, dataset: Dataset) -> None:
    result = run(HardVote(plain), dataset, transfer={"other": other}, eps=(0.25,))
    assert {"zero-gradients", "survives-unbounded-attack", "blind-beats-white-box"} <= raised(result)
    (found,) = result.budgets
    assert result.random
    assert result.votes == 10
    assert found.white_box is None
    transfer = found.find("transfer-other")
    assert transfer is not None
    assert transfer.result.accuracy < 30
    assert all(attack.kind in ("noise", "transfer", "black-box") for attack in found.attacks)


def test_a_plateau_far_from_the_images_shields_nothing(plain: nn.Module) -> None:
    """An attack that may begin anywhere begins there, and stands still; but it may also draw what nearer ones find."""
    images, labels = blobs(300, seed=2)
    zeros = Dataset("blobs", images[labels == 0], labels[labels == 0], tuple("0123456789"))

    def far_away_always_zero(images: Tensor) -> Tensor:
        far = images.mean((1, 2, 3)) > 0.3
        return torch.where(far[:, None], 10 * F.one_hot(torch.zeros(len(images)).long(), 10).float(), plain(images))

    result = run(far_away_always_zero, zeros)
    assert result.budgets[0].diagnostics.by_eps["0.15"] < 5
    assert "survives-unbounded-attack" not in raised(result)


@pytest.mark.parametrize("plant", [RandomNoise, RandomResize])
def test_randomness_without_eot(plant: Any, plain: nn.Module, dataset: Dataset) -> None:
    ignored, averaged = run(plant(plain), dataset, eot=1), run(plant(plain), dataset)
    assert "randomised-without-eot" in raised(ignored)
    assert "randomised-without-eot" not in raised(averaged)
    assert averaged.budgets[0].worst_case.accuracy < 20
    assert averaged.budgets[0].diagnostics.spread > 0


def test_quantised_front_end(plain: nn.Module, dataset: Dataset) -> None:
    result = run(Quantised(plain), dataset, eps=(0.3,))
    assert {"zero-gradients", "survives-unbounded-attack", "blind-beats-white-box"} <= raised(result)
    assert result.budgets[0].worst_case.accuracy < 20


def test_gradients_that_vanish_at_clean_images_alone_are_followed(plain: nn.Module, dataset: Dataset) -> None:
    """Black and white pixels, which a clamp holds still for the first 0.1; the ball goes to 0.6."""
    binary = Dataset("binary", (dataset.images > 0.3).float(), dataset.labels, dataset.classes)

    def clamped(images: Tensor) -> Tensor:
        logits: Tensor = plain((0.5 + 1.25 * (images - 0.5)).clamp(0, 1))
        return logits

    result = run(clamped, binary, eps=(0.6,))
    assert "zero-gradients" in raised(result)
    (found,) = result.budgets
    assert not found.diagnostics.blind
    assert found.find("pgd-annealed") is not None
    assert found.worst_case.accuracy < 35 < 95 < found.clean.accuracy


def test_bpda_breaks_a_front_end_whose_parts_are_known(plain: nn.Module, dataset: Dataset) -> None:
    found = run(QuantisedPurifier(plain), dataset, eps=(0.3,)).budgets[0]
    bpda = found.find("bpda")
    assert bpda is not None
    assert bpda.result.accuracy < 5


def test_a_surrogate_of_something_else(plain: nn.Module, robust: nn.Module, dataset: Dataset) -> None:
    class Decoy:
        surrogate = staticmethod(lambda images: robust(1 - images))

        def __call__(self, images: Tensor) -> Tensor:
            scores: Tensor = plain(images)
            return scores

    assert {"surrogate-disagrees", "blind-beats-white-box"} <= raised(run(Decoy(), dataset))


def test_a_gradient_that_is_not_the_slope(plain: nn.Module, dataset: Dataset) -> None:
    class Misleading:
        def __call__(self, images: Tensor) -> Tensor:
            detour = images.flip(3)
            logits: Tensor = plain(detour + (images - detour).detach())
            return logits

    assert "wrong-gradients" in raised(run(Misleading(), dataset))


def test_a_surrogate_whose_gradient_is_not_the_slope_of_its_exact_self(plain: nn.Module, dataset: Dataset) -> None:
    class Misleading:
        exact = staticmethod(plain)

        def surrogate(self, images: Tensor) -> Tensor:
            detour = images.flip(3)
            logits: Tensor = plain(detour + (images - detour).detach())
            return logits

        def __call__(self, images: Tensor) -> Tensor:
            scores: Tensor = plain(images)
            return scores

    assert "wrong-gradients" in raised(run(Misleading(), dataset))


class Rippled(nn.Module):
    """Logits with a ripple of short period in the pixels: the gradient is true, and leads nowhere."""

    def __init__(self, model: nn.Module, period: float, height: float) -> None:
        super().__init__()
        self.model, self.rate, self.height = model, 2 * math.pi / period, height
        signs = 2 * torch.randint(2, (144, 10), generator=torch.Generator().manual_seed(1)) - 1
        self.register_buffer("signs", signs.float())

    def forward(self, images: Tensor) -> Tensor:
        ripple = (self.rate * images.flatten(1)).sin() @ self.get_buffer("signs")
        return self.model(images) + self.height * ripple


def test_a_ripple_is_told_and_attacked_around_the_image(plain: nn.Module, dataset: Dataset) -> None:
    result = run(Rippled(plain, 0.02, 0.05), dataset)
    assert "wrong-gradients" in raised(result)
    (found,) = result.budgets
    assert found.diagnostics.unkept > 90 > 10 > found.diagnostics.finite_differences
    around = found.find("pgd-annealed-around")
    assert around is not None
    assert around.options == {"eot": 4, "steps": around.options["steps"]}
    smooth = run(plain, dataset).budgets[0]
    assert smooth.find("pgd-annealed-around") is None
    assert smooth.diagnostics.unkept < 10


class Remembers(nn.Module):
    """Near an image that it was asked about before it answers as it did then, all but a hundredth."""

    def __init__(self, model: nn.Module, radius: float) -> None:
        super().__init__()
        self.model, self.radius, self.seen = model, radius, torch.zeros(0, 144)

    def forward(self, images: Tensor) -> Tensor:
        logits, flat = self.model(images), images.detach().flatten(1)
        if not len(self.seen):
            self.seen = flat.clone()
        far, which = torch.cdist(flat, self.seen, p=torch.inf).min(1)
        near = far <= self.radius
        self.seen = torch.cat([self.seen, flat[~near]])
        with torch.no_grad():
            before = self.model(self.seen[which].reshape(images.shape))
        return torch.where(near[:, None], 0.99 * before + 0.01 * logits, logits)


def test_a_memory_of_what_was_asked_is_told(plain: nn.Module, dataset: Dataset) -> None:
    result = run(Remembers(plain, 1.1 * EPS), dataset)
    assert "depends-on-history" in raised(result)
    (found,) = result.budgets
    assert found.diagnostics.remembered > 50
    assert run(plain, dataset).budgets[0].diagnostics.remembered == 0


@pytest.mark.parametrize("told", [False, True])
def test_a_rounded_surrogate_has_no_slope_but_its_exact_one_has(plain: nn.Module, dataset: Dataset, told: bool) -> None:
    class Rounded:
        def __init__(self) -> None:
            if told:
                self.exact = plain

        def surrogate(self, images: Tensor) -> Tensor:
            logits: Tensor = plain(images)
            return logits + ((8 * logits).round() / 8 - logits).detach()

        def __call__(self, images: Tensor) -> Tensor:
            scores: Tensor = plain(images)
            return scores

    assert ("wrong-gradients" in raised(run(Rounded(), dataset))) != told


@pytest.mark.parametrize("asks", [False, True])
def test_a_front_end_out_of_torchs_sight(plain: nn.Module, dataset: Dataset, asks: bool) -> None:
    """The route without gradients, whose figure is that of the same front end within torch."""
    result = run(Jpeg(plain, asks=asks), dataset, eps=(0.3,), name="jpeg")
    assert {"zero-gradients", "survives-unbounded-attack", "blind-beats-white-box"} <= raised(result)
    (found,) = result.budgets
    assert {attack.kind for attack in found.attacks} == {"noise", "black-box"}
    assert found.worst_case == run(Quantised(plain), dataset, eps=(0.3,)).budgets[0].worst_case
    assert found.worst_case.accuracy < 20


def out_of_sight(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The same answers from a function, into which nobody can look."""

    def answer(images: Tensor) -> Tensor:
        scores: Tensor = model(images)
        return scores

    return answer


def test_peel_is_doubted_and_seen_through_where_other_scores_are_finite(plain: nn.Module, dataset: Dataset) -> None:
    peel = Peel(plain, scale=0.25)
    assert torch.equal(peel(dataset.images).argmax(1), plain(dataset.images).argmax(1))
    result = run(out_of_sight(peel), dataset)
    assert {"non-finite-gradients", "saturated-outputs"} <= raised(result)
    (found,) = result.budgets
    assert found.diagnostics.non_finite == 100
    assert found.worst_case.accuracy < 5
    pgd, annealed = found.find("pgd"), found.find("pgd-annealed")
    assert pgd is not None
    assert annealed is not None
    assert pgd.result.accuracy > 95
    assert annealed.options["loss"] == "margin"
    assert annealed.result.accuracy < 10


def test_peel_is_doubted_where_no_score_says_anything(robust: nn.Module, dataset: Dataset) -> None:
    result = run(out_of_sight(Peel(robust, scale=1.0)), dataset)
    assert {"non-finite-gradients", "survives-unbounded-attack"} <= raised(result)
    (found,) = result.budgets
    assert found.white_box is None
    square, spsa = found.find("square"), found.find("spsa")
    assert square is not None
    assert spsa is not None
    assert spsa.attacked == square.result.correct > 30  # all that are left, more than are tried where gradients work


def test_peel_of_a_module_is_doubted_and_attacked_before_it(
    robust: nn.Module, dataset: Dataset, robust_found: BudgetResult
) -> None:
    """As far as the bare classifier, by the answers of the module that it aggregates."""
    result = run(Peel(robust, scale=1.0), dataset)
    assert raised(result) == {"non-finite-gradients"}
    (check,) = result.raised
    assert check.value == result.budgets[0].diagnostics.masked == 100
    assert result.budgets[0].worst_case == robust_found.worst_case


def test_peel_with_a_surrogate_is_attacked_before_it(
    robust: nn.Module, dataset: Dataset, robust_found: BudgetResult
) -> None:
    """As far as the bare classifier."""
    result = run(PeelSeenThrough(robust, scale=1.0), dataset)
    assert "non-finite-gradients" not in raised(result)
    assert result.budgets[0].worst_case == robust_found.worst_case


def test_a_root_of_zero_is_doubted_and_seen_through(
    robust: nn.Module, dataset: Dataset, robust_found: BudgetResult
) -> None:
    result = run(RootOfZero(robust), dataset)
    assert raised(result) == {"non-finite-gradients"}
    (check,) = result.raised
    assert check.value == 100
    assert result.budgets[0].worst_case == robust_found.worst_case


def test_a_threshold_that_small_changes_do_not_pass_falls_to_few_large_ones(plain: nn.Module, dataset: Dataset) -> None:
    ink = Dataset("ink", (dataset.images > 0.25).float(), dataset.required_labels, dataset.classes)
    found = run(nn.Sequential(Contrast(0.4), plain), ink, norm="L2", eps=(1.5,)).budgets[0]
    left = {attack.name: attack.result.accuracy for attack in found.attacks}
    assert left["pgd-annealed-sparse"] < left["pgd-annealed"] - 20
    assert found.strongest == "pgd-annealed-sparse"


@pytest.mark.parametrize("share", SPARSE)
def test_as_many_pixels_as_a_step_changes_are_the_fewest_that_suffice(share: float) -> None:
    """A digit is lost where so many of its pixels are above a half, and the budget is hardly enough for these."""
    needed = round(784 * share)
    switched = switched_by(needed)
    dark, labels, budget = torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.long), Budget("L2", 0.6 * needed**0.5)
    found = {q: annealed(switched, dark, labels, budget, steps=50, start=dark, share=q) for q in (*SPARSE, 1.0)}
    assert [q for q, images in found.items() if switched(images).argmax(1) == 1] == [share]


def test_there_is_nothing_sparse_about_linf(plain: nn.Module, dataset: Dataset) -> None:
    assert run(plain, dataset).budgets[0].find("pgd-annealed-sparse") is None
