"""Gradients that are not finite: found, mended, and no reason to stop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import carso.audit.plan
from carso.attacks.eot import Expectation, calls
from carso.audit import audit
from carso.audit.finite import crafted, mended, non_finite
from carso.audit.target import Known
from carso.data import Dataset
from carso.errors import ModelError, NonFiniteError

pytestmark = pytest.mark.whole


class StuckError(NonFiniteError):
    """Raised by an attack that met such gradients on some images."""

    def __init__(self, found: Tensor, images: int) -> None:
        Exception.__init__(self, "stuck")
        self.found, self.images = found, images


def test_which_images_have_them() -> None:
    gradients = torch.zeros(4, 1, 2, 2)
    gradients[1, 0, 0, 1], gradients[2, 0, 1, 1] = torch.nan, -torch.inf
    assert non_finite(gradients).tolist() == [False, True, True, False]


def test_an_attack_that_met_them_has_found_something() -> None:
    images = torch.rand(3, 1, 2, 2)

    def stuck() -> Tensor:
        raise StuckError(images, 2)

    assert crafted(stuck) == (images, 2)
    assert crafted(lambda: images) == (images, 0)


def test_another_error_stops() -> None:
    def broken() -> Tensor:
        raise ModelError("broken")

    with pytest.raises(ModelError, match="broken"):
        crafted(broken)


def test_zero_times_infinity_is_zero() -> None:
    """Scores (log x, log(x / (1 - x))) at x = 1: the second is infinite, the first has the gradient 1."""

    def scores(images: Tensor) -> Tensor:
        x = images.flatten(1)
        return torch.cat([x.log(), torch.log(x / (1 - x))], dim=1)

    x = torch.ones(1, 1, 1, 1, requires_grad=True)
    as_it_is, as_mended = (
        torch.autograd.grad(candidates(x, 1)[..., 0].sum(), x)[0]
        for candidates in (calls(scores), mended(calls(scores)))
    )
    assert as_it_is.isnan().all()
    assert as_mended.item() == 1


@pytest.mark.parametrize("varies", [True, False, None])
def test_it_is_still_known_how_they_are_called(varies: bool | None, plain: nn.Module) -> None:
    found = Expectation(mended(Known(calls(plain), 7, varies)))
    assert (found.batch, found.varies) == (7, varies)


def test_finite_gradients_are_left_alone(plain: nn.Module, dataset: Dataset) -> None:
    x = dataset.images[:5].clone().requires_grad_()
    once, again = (
        torch.autograd.grad(candidates(x, 2).logsumexp(2).sum(), x)[0]
        for candidates in (calls(plain), mended(calls(plain)))
    )
    assert torch.equal(once, again)


def test_an_audit_goes_on_and_counts_them(
    small: None, plain: nn.Module, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = audit(plain, dataset, effort="quick", eps=(0.1,)).budgets[0].find("pgd")
    attack = carso.audit.plan.pgd

    def stuck(*arguments: object, **options: object) -> Tensor:
        raise StuckError(attack(*arguments, **options), 6)  # type: ignore[arg-type]

    monkeypatch.setattr(carso.audit.plan, "pgd", stuck)
    result = audit(plain, dataset, effort="quick", eps=(0.1,))
    pgd = result.budgets[0].find("pgd")
    assert whole is not None
    assert pgd is not None
    assert pgd.result == whole.result
    assert pgd.non_finite == 6
    (check,) = result.raised
    assert check.name == "non-finite-gradients"
    assert check.value == pytest.approx(100 * 6 / 60)
