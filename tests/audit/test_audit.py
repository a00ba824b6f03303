"""Honest classifiers raise nothing; bad input is refused; a broken run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.audit.audits import EPS, raised, run
from tests.efforts import shorten, timeless
from torch import Tensor, nn

from carso.audit import effort, read_audit
from carso.audit.checks import Evidence, blind_beats_white_box, make
from carso.audit.diagnostics import Diagnostics
from carso.audit.ensemble import VERDICT, Ensemble
from carso.audit.keeping import path_of
from carso.audit.plan import Attempt
from carso.audit.results import AttackResult, BudgetResult
from carso.data import Dataset
from carso.errors import CarsoError, DataError, ModelError, RunError
from carso.evaluation.results import Rate
from carso.progress import Bar
from carso.storage.weights import digest
from carso.types import Budget

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("small")]


class TestHonest:
    def test_a_plain_classifier_raises_nothing_and_falls(self, plain: nn.Module, dataset: Dataset) -> None:
        result = run(plain, dataset, eps=(EPS / 3, EPS))
        assert raised(result) == set()
        assert result.exit_code == 0
        assert [budget.eps for budget in result.budgets] == [EPS / 3, EPS]
        low, high = result.budgets
        assert low.clean.accuracy > 95
        assert high.worst_case.accuracy < low.worst_case.accuracy
        assert high.worst_case.accuracy < 5

    def test_an_adversarially_trained_classifier_raises_nothing_and_stands(
        self, robust: nn.Module, plain: nn.Module, dataset: Dataset
    ) -> None:
        result = run(robust, dataset, transfer={"plain": plain})
        assert raised(result) == set()
        (found,) = result.budgets
        assert found.worst_case.accuracy > 40
        assert all(found.worst_case.correct <= attack.result.correct for attack in found.attacks)
        assert {"pgd-annealed", "apgd-ce", "square", "transfer-plain"} <= {attack.name for attack in found.attacks}
        assert found.worst_of_k == found.worst_case
        assert found.mean == pytest.approx(found.worst_case.accuracy)

    def test_l2(self, robust: nn.Module, dataset: Dataset) -> None:
        result = run(robust, dataset, norm="L2", eps=(0.5, 1.5))
        assert raised(result) == set()
        assert result.budgets[1].worst_case.correct < result.budgets[0].worst_case.correct


class TestProgress:
    def test_every_bar_ends_full(self, robust: nn.Module, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        told: dict[str, list[tuple[float, float | None]]] = {}
        advance = Bar.advance

        def noted(bar: Bar, steps: int | float = 1) -> None:
            advance(bar, steps)
            told.setdefault(bar.description, []).append((bar.completed, bar.total))

        monkeypatch.setattr(Bar, "advance", noted)
        run(robust, dataset, eps=(0.1, 0.2), name="it")
        parts = {f"{part} Linf {eps}" for part in ("tuning for", "attacks in") for eps in (0.1, 0.2)}
        assert told.keys() >= {"audit of it", "square", *parts}
        for ends in told.values():
            assert ends[-1][0] == ends[-1][1]
            assert all(total is not None and done <= total for done, total in ends)

    @pytest.mark.parametrize(("random", "calls"), [(False, 3 + 1), (True, 3 + VERDICT)])
    def test_verdicts_of_chance_are_work_too(
        self, random: bool, calls: int, robust: nn.Module, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shorten(monkeypatch, "quick", tuning=5, steps=(6,), restarts=(1, 1), queries=5, plain=2)
        steps: list[float] = []
        advance = Bar.advance

        def noted(bar: Bar, steps_: int | float = 1) -> None:
            advance(bar, steps_)
            if bar.description.startswith("attacks in"):
                steps.append(steps_)

        monkeypatch.setattr(Bar, "advance", noted)
        found = run(Noisy(robust) if random else robust, dataset, n=20).budgets[0]
        assert found.attacks[0].name == "noise"
        assert steps[0] == calls * found.attacks[0].attacked

    @pytest.mark.parametrize(
        ("options", "calls"),
        [
            ({}, 3),
            ({"steps": 40}, 120),
            ({"steps": 40, "eot": 4}, 480),
            ({"queries": 150}, 150),
            ({"steps": 12, "directions": 16, "delta": 0.05}, 384),
            ({"version": "rand"}, 5000),
        ],
    )
    def test_an_attack_weighs_what_it_calls(self, options: dict[str, Any], calls: int) -> None:
        assert Attempt("attack", "white-box", "all", (), options=options).calls == calls


class TestRestarts:
    @pytest.mark.parametrize("name", ["plain", "robust"])
    def test_they_end_when_the_later_half_gains_nothing(
        self, name: str, dataset: Dataset, request: pytest.FixtureRequest
    ) -> None:
        attack = run(request.getfixturevalue(name), dataset, eps=(0.1,)).budgets[0].find("pgd-annealed")
        assert attack is not None
        later = [sum(attack.gains[n // 2 : n]) for n in range(2, len(attack.gains) + 1)]
        assert all(points >= 0.5 for points in later[:-1])
        assert later[-1] < 0.5 or len(attack.gains) == 6

    @pytest.mark.parametrize(("gains", "doubt"), [([60.0, 3.0, 1.5, 1.0], True), ([60.0, 3.0, 1.5, 0.4], False)])
    def test_a_later_half_that_gains_is_doubted(
        self, gains: list[float], doubt: bool, plain: nn.Module, dataset: Dataset
    ) -> None:
        found = run(plain, dataset, eps=(0.1,)).budgets[0]
        attack = found.find("pgd-annealed")
        assert attack is not None
        attack.gains = gains
        (check,) = [c for c in make(Evidence([found], random=False, averaged=True)) if "restarts" in c.name]
        assert check.raised is doubt
        assert check.value == pytest.approx(gains[2] + gains[3])


class TestBadInput:
    @pytest.mark.parametrize("eps", [(), (0.0,), (-0.1,), (1.5,), (0.1, float("nan"))])
    def test_eps(self, eps: tuple[float, ...], plain: nn.Module, dataset: Dataset) -> None:
        with pytest.raises(CarsoError, match="eps"):
            run(plain, dataset, eps=eps)

    def test_no_labels(self, plain: nn.Module, dataset: Dataset) -> None:
        with pytest.raises(DataError, match="labels"):
            run(plain, Dataset("bare", dataset.images))

    def test_no_image_is_answered_rightly(self, plain: nn.Module, dataset: Dataset) -> None:
        with pytest.raises(ModelError, match="none of the 60"):
            run(lambda images: -plain(images), dataset)

    @pytest.mark.parametrize(
        ("broken", "message"),
        [
            (lambda logits: logits * float("nan"), "NaN"),
            (lambda logits: logits[0], "shape"),
            (lambda logits: logits.argmax(1), "shape"),
            (lambda logits: logits.long(), "floating"),
            (lambda logits: [logits], "tensor"),
            (lambda logits: logits.view(3, 7, 11), "cannot run"),
        ],
    )
    def test_broken_targets(self, broken: Any, message: str, plain: nn.Module, dataset: Dataset) -> None:
        with pytest.raises(ModelError, match=message):
            run(lambda images: broken(plain(images)), dataset)

    def test_another_device(self, dataset: Dataset) -> None:
        if torch.cuda.is_available():
            pytest.skip("there is another device")
        with torch.device("meta"):
            elsewhere = nn.Sequential(nn.Flatten(), nn.Linear(144, 10))
        with pytest.raises(ModelError):
            run(elsewhere, dataset)

    def test_no_callable(self, dataset: Dataset) -> None:
        with pytest.raises(ModelError, match="callable"):
            run(3, dataset)


class Interrupted(nn.Module):
    """A classifier that stops answering after so many calls."""

    def __init__(self, model: nn.Module, calls: float, error: BaseException) -> None:
        super().__init__()
        self.model, self.calls, self.error = model, calls, error

    def forward(self, images: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise self.error
        logits: Tensor = self.model(images)
        return logits

    def __repr__(self) -> str:
        return "Interrupted"


class Noisy(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images + 0.05 * torch.randn_like(images))
        return logits


class Shifted(nn.Module):
    """The image moved by so many columns, which nothing of it tells."""

    def __init__(self, model: nn.Module, columns: int) -> None:
        super().__init__()
        self.model, self.columns = model, columns

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.roll(self.columns, 3))
        return logits


class Unruled(nn.Module):
    """The image with noise of a generator of its own, which no seed of the audit sets back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.own = model, torch.Generator().manual_seed(0)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images + 0.01 * torch.randn(images.shape, generator=self.own))
        return logits


class Coin(nn.Module):
    """Its model's answer seven times in ten, and else another class, whatever is asked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return torch.where(torch.rand(len(images), 1) < 0.7, logits, logits.roll(1, 1))


def test_an_unlucky_answer_is_no_breach(robust: nn.Module, dataset: Dataset) -> None:
    (honest,) = run(robust, dataset, eps=(1e-4,)).budgets
    found = run(Coin(robust), dataset, eps=(1e-4,))
    (budget,) = found.budgets
    assert honest.worst_case == honest.clean
    assert budget.worst_case.accuracy >= budget.clean.accuracy - 2
    assert all(sum(attack.gains) <= 2 for attack in budget.attacks)
    assert not raised(found) & {"not-converged-in-restarts", "not-converged-in-steps", "surrogate-disagrees"}


class TestResuming:
    @pytest.mark.parametrize("random", [False, True])
    def test_a_broken_run_ends_as_an_unbroken_one(
        self, random: bool, robust: nn.Module, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if random:
            shorten(monkeypatch, "quick", tuning=5, steps=(6,), restarts=(4, 8), queries=50, plain=9)
        subject = Interrupted(Noisy(robust) if random else robust, 1e6, KeyboardInterrupt())
        whole = run(subject, dataset, out=tmp_path / "whole", n=40)
        calls = 1e6 - subject.calls
        for share in (0.5, 0.15, 0.2):
            subject.calls = share * calls
            with pytest.raises(KeyboardInterrupt):
                run(subject, dataset, out=tmp_path / "parts", n=40)
        assert not (tmp_path / "parts" / "audit.json").exists()
        assert list((tmp_path / "parts" / "state").iterdir())
        subject.calls = float("inf")
        resumed = run(subject, dataset, out=tmp_path / "parts", n=40)
        assert timeless(resumed) == timeless(whole)
        assert timeless(read_audit(tmp_path / "parts")) == timeless(whole)

    def test_a_finished_audit_is_not_repeated(self, plain: nn.Module, dataset: Dataset, tmp_path: Path) -> None:
        subject = Interrupted(plain, 1e6, RuntimeError("asked again"))
        first = run(subject, dataset, out=tmp_path, n=30)
        subject.calls = (1e6 - subject.calls) / 4
        assert run(subject, dataset, out=tmp_path, n=30) == first

    def test_further_budgets_join(self, plain: nn.Module, dataset: Dataset, tmp_path: Path) -> None:
        assert run(plain, dataset, out=tmp_path, n=30).weights == digest(plain)
        both = run(plain, dataset, out=tmp_path, n=30, eps=(EPS / 2, EPS))
        assert [budget.eps for budget in both.budgets] == [EPS / 2, EPS]

    def test_another_audit_is_not_mixed_in(
        self, plain: nn.Module, robust: nn.Module, dataset: Dataset, tmp_path: Path
    ) -> None:
        run(plain, dataset, out=tmp_path, n=30)
        with pytest.raises(RunError, match="another"):
            run(robust, dataset, out=tmp_path, n=30)
        with pytest.raises(RunError, match="another"):
            run(plain, dataset, out=tmp_path, n=30, seed=1)

    def test_a_module_is_the_same_whatever_it_is_called_and_a_function_is_not(
        self, plain: nn.Module, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shorten(monkeypatch, "quick")
        module, function = tmp_path / "module", tmp_path / "function"
        first = run(plain, dataset, out=module, n=30, name="run")
        again = run(plain, dataset, out=module, n=30, name="./run")
        assert (again.budgets, again.target) == (first.budgets, "./run")
        run(lambda images: plain(images), dataset, out=function, n=30, name="f")
        with pytest.raises(RunError, match="another target"):
            run(lambda images: plain(images), dataset, out=function, n=30, name="g")

    def test_a_function_of_the_same_name_that_answers_otherwise_is_another_target(
        self, plain: nn.Module, robust: nn.Module, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shorten(monkeypatch, "quick")
        first = run(lambda images: plain(images), dataset, out=tmp_path, n=30, name="f")
        assert run(lambda images: plain(images) * (1 + 1e-5), dataset, out=tmp_path, n=30, name="f") == first
        with pytest.raises(RunError, match="another target"):
            run(lambda images: robust(images), dataset, out=tmp_path, n=30, name="f")

    def test_a_module_that_answers_otherwise_by_an_attribute_is_another_target(
        self, plain: nn.Module, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shorten(monkeypatch, "quick")
        shifted = Shifted(plain, 0)
        subject = Interrupted(shifted, 1e6, KeyboardInterrupt())
        run(subject, dataset, out=tmp_path, n=30)
        shifted.columns = 1
        with pytest.raises(RunError, match="another target"):
            run(subject, dataset, out=tmp_path, n=30)

    def test_what_no_seed_rules_and_nobody_can_look_into_is_not_gone_on_with(
        self, plain: nn.Module, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shorten(monkeypatch, "quick")
        own = torch.Generator().manual_seed(0)

        def noisy(images: Tensor) -> Tensor:
            logits: Tensor = plain(images + 0.01 * torch.randn(images.shape, generator=own))
            return logits

        run(noisy, dataset, out=tmp_path, n=30)
        with pytest.raises(RunError, match="another target"):
            run(noisy, dataset, out=tmp_path, n=30)

    def test_a_module_that_no_seed_rules_is_known_by_its_name_too(
        self, plain: nn.Module, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shorten(monkeypatch, "quick")
        run(Unruled(plain), dataset, out=tmp_path, n=30, name="first")
        assert run(Unruled(plain), dataset, out=tmp_path, n=30, name="first").random
        with pytest.raises(RunError, match="another target"):
            run(Unruled(plain), dataset, out=tmp_path, n=30, name="second")

    @pytest.mark.parametrize(("name", "before"), [("ATTACKS", 0), ("SPARSE", (0.5,))])
    def test_what_earlier_attacks_left_is_not_gone_on_with(
        self,
        name: str,
        before: Any,
        plain: nn.Module,
        dataset: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        shorten(monkeypatch, "quick")
        with monkeypatch.context() as earlier:
            earlier.setattr(effort, name, before)
            run(plain, dataset, out=tmp_path, n=30)
        with pytest.raises(RunError, match="or attacks than today's"):
            run(plain, dataset, out=tmp_path, n=30)

    def test_another_transfer_of_the_same_name_is_another_audit(
        self, plain: nn.Module, robust: nn.Module, other: nn.Module, dataset: Dataset, tmp_path: Path
    ) -> None:
        run(plain, dataset, out=tmp_path, n=30, transfer={"one": other})
        with pytest.raises(RunError, match="another"):
            run(plain, dataset, out=tmp_path, n=30, transfer={"one": robust})

    def test_the_final_verdict_is_passed_again_where_attacks_have_joined(
        self, plain: nn.Module, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = Ensemble._plan
        with monkeypatch.context() as patch:
            patch.setattr(Ensemble, "_plan", lambda self: whole(self)[:1])
            (begun,) = run(plain, dataset, out=tmp_path, n=30).budgets
        (joined,) = run(plain, dataset, out=tmp_path, n=30).budgets
        (unbroken,) = run(plain, dataset, n=30).budgets
        assert begun.mean > joined.mean
        assert (joined.mean, joined.worst_of_k) == (unbroken.mean, unbroken.worst_of_k)

    def test_damaged_books_are_named(self, plain: nn.Module, dataset: Dataset, tmp_path: Path) -> None:
        run(plain, dataset, out=tmp_path, n=30)
        (book,) = (tmp_path / "state").iterdir()
        book.write_bytes(book.read_bytes()[:50])
        with pytest.raises(RunError, match=book.name):
            run(plain, dataset, out=tmp_path, n=30)


def test_the_seed_decides(robust: nn.Module, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, "quick", tuning=10, steps=(5, 10), restarts=(2, 4), queries=50, plain=9, draws=2)
    first, again = (timeless(run(robust, dataset, n=40)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(("broken", "value"), [(20, 95.0), (2, 9.5), (1, 0.1)])
def test_a_blind_attack_on_a_few_survivors_counts_as_if_on_all(broken: int, value: float) -> None:
    """Of 1,000 images 950 survive; an attack without gradients is given 20 of them."""
    left = Rate.of(950 - broken, 1000)
    entry = {"name": "spsa", "kind": "black-box", "on": "survivors", "result": left, "seconds": 1.0, "attacked": 20}
    measured = Diagnostics(
        images=10, zero_gradients=0, saturated=0, spread=0, finite_differences=0, disagreement=0, unbounded=0
    )
    found = BudgetResult(
        norm="Linf",
        eps=0.1,
        clean=Rate.of(1000, 1000),
        worst_case=left,
        attacks=[AttackResult.model_validate(entry | {"gains": [broken / 10]})],
        mean=90.0,
        worst_of_k=left,
        white_box=Rate.of(950, 1000),
        strongest=None,
        diagnostics=measured,
    )
    assert blind_beats_white_box(found, Evidence([found], random=False, averaged=False)) == pytest.approx(value)


def test_radii_that_differ_in_a_late_digit_keep_states_of_their_own(tmp_path: Path) -> None:
    paths = {path_of(tmp_path, Budget("Linf", eps)) for eps in (0.05, 0.0500000499)}
    assert len(paths) == 2
