"""How a target is called, whether it has a gradient, and whether its chance follows a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from tests.audit.audits import raised, run
from tests.audit.conftest import SIDE, fitted
from tests.efforts import resize, timeless
from torch import Tensor, nn
from torch.nn import functional as F

from carso.audit.results import BudgetResult
from carso.audit.surface import INFINITE, Surface, has_gradient
from carso.audit.target import Known, target_of
from carso.data import Dataset
from carso.errors import DataError, ModelError
from carso.nn import MLP, ResNet, Standardise

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("small")]


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
@pytest.mark.parametrize("form", [Answering, another])
def test_answers_in_another_dtype(
    form: Callable[[nn.Module, torch.dtype], nn.Module],
    dtype: torch.dtype,
    robust: nn.Module,
    dataset: Dataset,
    robust_found: BudgetResult,
) -> None:
    result = run(form(robust, dtype), dataset)
    assert raised(result) == set()
    assert result.budgets[0].worst_case.accuracy == pytest.approx(robust_found.worst_case.accuracy, abs=4)


class Far(nn.Module):
    """The same logits, all of them 400 higher, where half precision counts by quarters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits + 400


def test_half_precision_is_not_accused_of_wrong_gradients(plain: nn.Module, dataset: Dataset) -> None:
    result = run(Answering(Far(plain), torch.float16), dataset, n=30)
    assert "wrong-gradients" not in raised(result)
    assert result.budgets[0].diagnostics.finite_differences == 0


def test_another_default_dtype(robust: nn.Module, dataset: Dataset, robust_found: BudgetResult) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        result = run(robust, dataset)
    finally:
        torch.set_default_dtype(torch.float32)
    assert raised(result) == set()
    assert result.budgets[0].worst_case.accuracy == pytest.approx(robust_found.worst_case.accuracy, abs=4)


def test_a_module_in_train_mode_behind_a_function_is_differentiated_and_left_as_it_was(dataset: Dataset) -> None:
    """Its standardisation is a buffer that the backward pass needs as it was."""
    torch.manual_seed(0)
    layers = Standardise((0.2,), (0.3,)), nn.Flatten(), nn.Linear(SIDE**2, 40), nn.Dropout(0.1), nn.Linear(40, 10)
    model = fitted(nn.Sequential(*layers)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = run(lambda images: model(images), dataset, n=30, name="function")
    assert result.random
    assert result.budgets[0].diagnostics.zero_gradients == 0
    assert result.budgets[0].worst_case.accuracy < 50
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


class Two(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)[:, :2]
        return logits


def test_two_classes(plain: nn.Module, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    resize(monkeypatch, "quick", deepfool=10, rivals=9)
    labels, keep = dataset.required_labels, dataset.required_labels < 2
    (found,) = run(Two(plain), Dataset("two", dataset.images[keep], labels[keep], ("0", "1"))).budgets
    dlr, rivals = found.find("apgd-dlr"), found.find("pgd-annealed-targeted")
    assert dlr is not None
    assert rivals is not None
    assert (dlr.attacked, dlr.options) == (0, {"left_out": "the DLR loss needs three classes"})
    assert rivals.options["rivals"] == 1
    assert found.find("deepfool") is not None
    assert found.clean.accuracy > 95
    assert found.worst_case.accuracy < 50


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

        def hungry_on_a_processor(images: Tensor) -> Tensor:
            return torch.empty(10**15)

        for model in (hungry, hungry_on_a_processor):
            with pytest.raises(RuntimeError, match="memory"):
                has_gradient(model, dataset.images[:3])

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
    scores[0, 2] = 3 * INFINITE
    assert surface(torch.zeros(1, 1, 1, 1)).tolist() == [[6 * INFINITE, -6 * INFINITE, 3 * INFINITE]]
    one = Surface(lambda _: torch.tensor([[1.0, 0.0]]), "one", 2, probabilities=True, rounding=0.0)
    assert one(torch.zeros(1, 1, 1, 1)).isfinite().all()


def test_classes_that_are_ruled_out_are_no_reason_to_stop(
    robust: nn.Module, dataset: Dataset, robust_found: BudgetResult
) -> None:
    def masked(images: Tensor) -> Tensor:
        logits: Tensor = robust(images)
        return F.pad(logits, (0, 2), value=-torch.inf)

    assert run(masked, dataset, name="masked").budgets[0].worst_case == robust_found.worst_case


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
@pytest.mark.parametrize("after", [80, 300, 700])
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


class Noisy(nn.Module):
    """A model of images that are as much brighter or darker as a standard normal number, drawn per call, says."""

    def __init__(self, model: nn.Module, draw: Callable[[], float], share: float = 1.0) -> None:
        super().__init__()
        self.model, self.draw, self.share = model, draw, share

    def forward(self, images: Tensor) -> Tensor:
        shift = 0.05 * self.draw() * (NormalDist().cdf(self.draw()) < self.share)
        logits: Tensor = self.model(images + shift)
        return logits


SOURCES: dict[str, Callable[[], float]] = {
    "torch": lambda: float(torch.randn(())),
    "numpy": lambda: float(np.random.standard_normal()),
    "python": lambda: random.gauss(0, 1),
}


class TestChance:
    @pytest.fixture(autouse=True)
    def smaller(self, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = {"tuning": 10, "steps": (5,), "restarts": (1, 2), "long": (10, 1), "plain": 5, "queries": 20}
        resize(monkeypatch, "quick", **sizes, spsa=(2, 3), spsa_images=5)

    @pytest.mark.parametrize("source", SOURCES)
    def test_the_seed_rules_it(self, source: str, robust: nn.Module, dataset: Dataset) -> None:
        subject = Noisy(robust, SOURCES[source])
        first, again = (timeless(run(subject, dataset, n=20)) for _ in range(2))
        assert first == again
        assert first["random"]
        (check,) = (check for check in first["checks"] if check["name"] == "randomness-unseeded")
        assert not check["raised"]

    def test_noise_in_a_tenth_of_the_calls_is_noticed(self, robust: nn.Module, dataset: Dataset) -> None:
        subject = Noisy(robust, SOURCES["numpy"], share=0.1)
        assert sum(target_of(subject, dataset.images, seed=seed).random for seed in range(200)) >= 199

    def test_what_no_seed_rules_is_said(self, robust: nn.Module, dataset: Dataset) -> None:
        own = np.random.default_rng(0)
        result = run(Noisy(robust, lambda: float(own.standard_normal())), dataset, n=20)
        assert result.random
        assert "randomness-unseeded" in raised(result)

    def test_a_deterministic_target_is_repeatable(self, robust: nn.Module, dataset: Dataset) -> None:
        target = target_of(robust, dataset.images)
        assert (target.random, target.random_surrogate, target.repeatable) == (False, False, True)


class TestClasses:
    def test_names_decide(self, robust: nn.Module, dataset: Dataset, robust_found: BudgetResult) -> None:
        """The same classes, the other way around."""

        class Turned(nn.Module):
            class_names = tuple("9876543210")

            def forward(self, images: Tensor) -> Tensor:
                logits: Tensor = robust(images)
                return logits.flip(1)

        (found,) = run(Turned(), dataset).budgets
        assert found.clean == robust_found.clean
        assert found.worst_case.accuracy == pytest.approx(robust_found.worst_case.accuracy, abs=4)

    def test_a_part_of_them(self, robust: nn.Module, dataset: Dataset) -> None:
        """A folder with the classes 4 to 9 of a defence for ten digits."""
        labels, few = dataset.required_labels, dataset.required_labels >= 4
        part = Dataset("part", dataset.images[few], labels[few] - 4, tuple("456789"))
        right = (robust(dataset.images).argmax(1) == labels)[few].sum()
        assert run(robust, part).budgets[0].clean.correct == right > 20

    def test_more_than_the_data_have(self, robust: nn.Module, dataset: Dataset, robust_found: BudgetResult) -> None:
        def twelve(images: Tensor) -> Tensor:
            logits: Tensor = robust(images)
            return F.pad(logits, (0, 2), value=-30.0)

        (found,) = run(twelve, dataset, name="twelve").budgets
        assert (found.clean, found.worst_case) == (robust_found.clean, robust_found.worst_case)

    def test_fewer_are_refused(self, plain: nn.Module, dataset: Dataset) -> None:
        with pytest.raises(DataError, match="blobs: has the label 9, the model knows the classes 0 to 4"):
            run(lambda images: plain(images)[:, :5], dataset)


def test_a_network_with_convolutions_is_attacked_in_a_cheaper_form_and_answers_by_itself() -> None:
    torch.manual_seed(0)
    model, images = ResNet((3, SIDE, SIDE), width=4, blocks=(1, 1)).eval(), torch.rand(40, 3, SIDE, SIDE)
    target = target_of(model, images, seed=0)
    assert isinstance(target.candidates, Known)
    assert target.candidates.batch
    assert target.exact is not None
    assert target.known is not None
    own = model(images).log_softmax(1)
    torch.testing.assert_close(target.exact(0, 1)(images), own)
    torch.testing.assert_close(target.known(0, 1)(images), own, atol=0.05, rtol=0.05)
    assert torch.equal(target.answer(images), model(images).argmax(1))
    assert not target.random
