"""How a target is called, whether it has a gradient, and whether its chance follows a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.audit.conftest import EPS, SIDE, fitted
from torch import Tensor, nn
from torch.nn import functional as F

from carso.audit import Audit, audit
from carso.audit.surface import INFINITE, Surface, has_gradient
from carso.audit.target import target_of
from carso.data import Dataset
from carso.errors import ModelError
from carso.nn import MLP

pytestmark = pytest.mark.usefixtures("small")


def run(subject: Any, dataset: Dataset, **options: Any) -> Audit:
    return audit(subject, dataset, **({"effort": "quick", "eps": (EPS,)} | options))


def raised(result: Audit) -> set[str]:
    return {check.name for check in result.checks if check.raised}


class Rounding(nn.Module):
    """Half a grey level of two, in place or on a copy."""

    def __init__(self, model: nn.Module, *, copies: bool) -> None:
        super().__init__()
        self.model, self.copies = model, copies

    def forward(self, images: Tensor) -> Tensor:
        own = images.clone() if self.copies else images
        logits: Tensor = self.model(own.copy_((own * 2).round() / 2))
        return logits


def test_a_target_that_writes_into_its_input_is_audited_as_one_that_copies(robust: nn.Module, dataset: Dataset) -> None:
    before = dataset.images.clone()
    ours, theirs = (run(Rounding(robust, copies=copies), dataset).budgets[0] for copies in (False, True))
    assert torch.equal(dataset.images, before)
    assert ours.worst_case == theirs.worst_case
    assert ours.diagnostics == theirs.diagnostics
    assert [attack.result for attack in ours.attacks] == [attack.result for attack in theirs.attacks]


class Answering(nn.Module):
    """A model whose scores come in another dtype."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits.to(self.dtype)


def another(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The same weights in another dtype, behind a name of their own."""
    copied = MLP((1, SIDE, SIDE), hidden=(60, 40))
    copied.load_state_dict(model.state_dict())
    return copied.eval().requires_grad_(False).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_answers_in_another_dtype(robust: nn.Module, dataset: Dataset, dtype: torch.dtype) -> None:
    expected = run(robust, dataset).budgets[0].worst_case.accuracy
    for subject in (Answering(robust, dtype), another(robust, dtype)):
        result = run(subject, dataset)
        assert raised(result) == set()
        assert result.budgets[0].worst_case.accuracy == pytest.approx(expected, abs=4)


def test_another_default_dtype(robust: nn.Module, dataset: Dataset) -> None:
    expected = run(robust, dataset).budgets[0]
    torch.set_default_dtype(torch.float64)
    try:
        found = run(robust, dataset).budgets[0]
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.worst_case.accuracy == pytest.approx(expected.worst_case.accuracy, abs=4)


@pytest.fixture(scope="module")
def binary(dataset: Dataset) -> tuple[nn.Module, Dataset]:
    """A classifier of two classes, and their images."""
    torch.manual_seed(0)
    model = fitted(MLP((1, SIDE, SIDE), hidden=(60, 40)))
    keep = dataset.required_labels < 2
    half = Dataset("two", dataset.images[keep], dataset.required_labels[keep], ("0", "1"))
    return Two(model), half


class Two(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)[:, :2]
        return logits


@pytest.mark.parametrize("effort", ["quick", "standard"])
def test_two_classes(binary: tuple[nn.Module, Dataset], effort: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if effort == "standard":
        monkeypatch.setitem(carso_sizes(), "standard", standard())
    (found,) = run(*binary, effort=effort).budgets
    dlr, rivals = found.find("apgd-dlr"), found.find("pgd-annealed-targeted")
    assert dlr is not None
    assert rivals is not None
    assert (dlr.attacked, dlr.options) == (0, {"left_out": "the DLR loss needs three classes"})
    assert rivals.options["rivals"] == 1
    assert found.clean.accuracy > 95
    assert found.worst_case.accuracy < 50


def carso_sizes() -> dict[str, Any]:
    import carso.audit.effort

    return carso.audit.effort.SIZES  # type: ignore[return-value]


def standard() -> Any:
    from dataclasses import replace

    quick = carso_sizes()["quick"]
    return replace(quick, deepfool=10, rivals=9)


class TestGradient:
    def test_it_must_depend_on_the_images(self, plain: nn.Module, dataset: Dataset) -> None:
        trainable = fitted(MLP((1, SIDE, SIDE), hidden=(5,)), epochs=1).requires_grad_()
        images = dataset.images[:3]
        assert has_gradient(trainable, images)
        assert not has_gradient(lambda images: trainable(images.detach()), images)
        assert not has_gradient(lambda images: trainable(torch.from_numpy(images.numpy())), images)
        assert not has_gradient(lambda images: trainable(images).detach(), images)
        assert not has_gradient(lambda images: trainable(images.detach()) + 0 * plain(images.round().detach()), images)

    def test_memory_that_runs_out_is_no_lack_of_it(self, dataset: Dataset) -> None:
        def hungry(images: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

        with pytest.raises(torch.OutOfMemoryError):
            has_gradient(hungry, dataset.images[:3])

    def test_an_exact_form_has_one(self, plain: nn.Module, dataset: Dataset) -> None:
        class Target(nn.Module):
            surrogate = staticmethod(plain)

            def exact(self, images: Tensor) -> Tensor:
                return plain(images).detach()  # type: ignore[no-any-return]

            def forward(self, images: Tensor) -> Tensor:
                return plain(images)  # type: ignore[no-any-return]

        with pytest.raises(ModelError, match=r"Target\.exact has no gradient, which .*Target\.surrogate has"):
            run(Target(), dataset)


def test_infinite_scores_are_large_ones() -> None:
    scores = torch.tensor([[torch.inf, -torch.inf, 2.0]])
    surface = Surface(lambda _: scores, "odds", 3, probabilities=False, rounding=0.0)
    assert surface(torch.zeros(1, 1, 1, 1)).tolist() == [[INFINITE, -INFINITE, 2.0]]
    one = Surface(lambda _: torch.tensor([[1.0, 0.0]]), "one", 2, probabilities=True, rounding=0.0)
    assert one(torch.zeros(1, 1, 1, 1)).isfinite().all()


def test_classes_that_are_ruled_out_are_no_reason_to_stop(plain: nn.Module, dataset: Dataset) -> None:
    def masked(images: Tensor) -> Tensor:
        logits: Tensor = plain(images)
        return F.pad(logits, (0, 2), value=-torch.inf)

    ours, theirs = (run(subject, dataset, name="masked").budgets[0] for subject in (masked, plain))
    assert ours.worst_case == theirs.worst_case


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda logits: logits[:, :7], r"must return scores of shape \(\d+, 10\), not \(\d+, 7\)"),
        (lambda logits: logits[1:], "must return scores of shape"),
        (lambda logits: None, "must return a tensor of scores"),
        (lambda logits: {}["lost"], "cannot run on images .*KeyError: 'lost'"),
        (lambda logits: torch.nan * logits, "returned NaN"),
    ],
)
@pytest.mark.parametrize("after", [80, 300, 1500])
def test_what_goes_wrong_in_the_middle_is_one_line(
    after: int, broken: Callable[[Tensor], Any], message: str, robust: nn.Module, dataset: Dataset
) -> None:
    calls = 0

    def subject(images: Tensor) -> Any:
        nonlocal calls
        calls += 1
        return robust(images) if calls < after else broken(robust(images))

    with pytest.raises(ModelError, match=message):
        run(subject, dataset)


def noisy(model: nn.Module, draw: Callable[[tuple[int, ...]], Tensor], share: float = 1.0) -> nn.Module:
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            noise = 0.05 * draw(tuple(images.shape))
            logits: Tensor = model(images + noise * (draw((1,)).abs() < NORMAL[share]))
            return logits

        def __repr__(self) -> str:
            return "Noisy"

    return Noisy()


NORMAL = {1.0: torch.inf, 0.1: 0.12566}
"""Bounds within which the absolute value of a normal variable lies with some probability."""

SOURCES: dict[str, Callable[[tuple[int, ...]], Tensor]] = {
    "torch": lambda shape: torch.randn(shape),
    "numpy": lambda shape: torch.from_numpy(np.random.standard_normal(shape)).float(),
    "python": lambda shape: torch.tensor([random.gauss(0, 1) for _ in range(int(np.prod(shape)))]).view(shape),
}


def timeless(result: Audit) -> dict[str, Any]:
    tree = result.model_dump()
    for budget in tree["budgets"]:
        for attack in budget["attacks"]:
            attack.pop("seconds")
    return tree


class TestChance:
    @pytest.mark.parametrize("source", SOURCES)
    def test_the_seed_rules_it(self, source: str, robust: nn.Module, dataset: Dataset) -> None:
        subject = noisy(robust, SOURCES[source])
        states = np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index, union-attr]
        first, again = run(subject, dataset, n=30), run(subject, dataset, n=30)
        assert timeless(first) == timeless(again)
        assert first.random
        assert "randomness-unseeded" not in raised(first)
        assert np.random.get_state()[1].tolist() == states[0]  # type: ignore[index, union-attr]
        assert torch.equal(torch.get_rng_state(), states[1])

    def test_noise_in_a_tenth_of_the_calls_is_noticed(self, robust: nn.Module, dataset: Dataset) -> None:
        subject = noisy(robust, SOURCES["numpy"], share=0.1)
        assert all(target_of(subject, dataset.images, seed=seed).random for seed in range(40))

    def test_what_no_seed_rules_is_said(self, robust: nn.Module, dataset: Dataset) -> None:
        own = np.random.default_rng(0)
        subject = noisy(robust, lambda shape: torch.from_numpy(own.standard_normal(shape)).float())
        result = run(subject, dataset, n=30)
        assert result.random
        assert "randomness-unseeded" in raised(result)

    def test_a_deterministic_target_is_repeatable(self, robust: nn.Module, dataset: Dataset) -> None:
        target = target_of(robust, dataset.images)
        assert (target.random, target.random_surrogate, target.repeatable) == (False, False, True)


class TestClasses:
    def test_names_decide(self, robust: nn.Module, dataset: Dataset) -> None:
        """The same classes, the other way around."""

        class Turned(nn.Module):
            class_names = tuple("9876543210")

            def forward(self, images: Tensor) -> Tensor:
                logits: Tensor = robust(images)
                return logits.flip(1)

        ours, theirs = run(Turned(), dataset).budgets[0], run(robust, dataset).budgets[0]
        assert ours.clean == theirs.clean
        assert ours.worst_case.accuracy == pytest.approx(theirs.worst_case.accuracy, abs=4)

    def test_a_part_of_them(self, robust: nn.Module, dataset: Dataset) -> None:
        """A folder with the classes 4 to 9 of a defence for ten digits."""
        labels, few = dataset.required_labels, dataset.required_labels >= 4
        part = Dataset("part", dataset.images[few], labels[few] - 4, tuple("456789"))
        right = (robust(dataset.images).argmax(1) == labels)[few].sum()
        assert run(robust, part).budgets[0].clean.correct == right > 20

    def test_more_than_the_data_have(self, plain: nn.Module, dataset: Dataset) -> None:
        def twelve(images: Tensor) -> Tensor:
            logits: Tensor = plain(images)
            return F.pad(logits, (0, 2), value=-30.0)

        assert run(twelve, dataset, name="twelve").budgets[0].clean == run(plain, dataset).budgets[0].clean

    def test_fewer_are_refused(self, plain: nn.Module, dataset: Dataset) -> None:
        with pytest.raises(Exception, match="blobs: has the label 9, the defence knows the classes 0 to 4"):
            run(lambda images: plain(images)[:, :5], dataset)
