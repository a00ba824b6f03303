from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from carso import CARSO, Budget
from carso.data import Dataset
from carso.errors import RunError
from carso.evaluation.records import Records
from carso.hardening import choice
from carso.hardening.choice import TRAINED, best, chosen, rows_of, work_of
from carso.hardening.proposal import proposed
from carso.storage import weights
from carso.training.experiment import Experiment
from carso.training.recipe import PurifierSpec

pytestmark = pytest.mark.whole

CPU = torch.device("cpu")
BUDGETS = (Budget("Linf", 0.02),)


class Halves(nn.Module):
    """Whether the upper or the lower half of an image is the brighter one."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.AvgPool2d((4, 8))
        self.gain = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        halves: torch.Tensor = self.gain * self.rows(images).flatten(1)
        return halves


def records(labels: list[int], **answers: list[list[int]]) -> Records:
    """What columns answered to each row in turn."""
    count = len(next(iter(answers.values())))
    rows = {
        str(i): SimpleNamespace(
            outcomes={name: SimpleNamespace(predicted=torch.tensor(rows[i])) for name, rows in answers.items()}
        )
        for i in range(count)
    }
    return Records.model_construct(labels=torch.tensor(labels), rows=rows)


def test_the_best_is_right_whatever_was_tried_on_most_images() -> None:
    found = best(records([0, 1, 2], untrained=[[0, 1, 2], [0, 0, 0]], hardened=[[0, 1, 0], [0, 1, 2]]))
    assert found.kept == "hardened"
    assert {name: (rate.correct, rate.total) for name, rate in found.rates.items()} == {
        "untrained": (1, 3),
        "hardened": (2, 3),
    }
    assert "kept after its last stage: of 3 held-out images" in str(found)
    assert "66.7 % keep the classifier's answer (33.3 % as it was before training)" in str(found)


def test_of_equals_the_one_that_was_trained_least_is_kept() -> None:
    assert best(records([0, 1], untrained=[[0, 0]], unhardened=[[1, 1]], hardened=[[0, 0]])).kept == "untrained"


def test_an_image_takes_as_many_gradients_as_its_attacks_steps() -> None:
    rows = rows_of((Budget("Linf", 0.1), Budget("Linf", 0.2)))
    steps = sum(int(row.options.get("steps", 0)) for row in rows)
    assert work_of(PurifierSpec(kind="corrective"), 2) == (3 * steps, 3 * len(rows))
    assert work_of(PurifierSpec(), 2) == (2 * steps, 2 * len(rows))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """A training of a purifier that gives back the image, hardly long enough to change anything."""
    monkeypatch.setattr(choice, "STEPS", 3)
    bright = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.3
    bright[:12, :, :4] += 0.5
    bright[12:, :, 4:] += 0.5
    images = Dataset("halves", bright, torch.arange(24) // 12, ("above", "below"))
    purifier = PurifierSpec(kind="corrective", width=4, channels=2, blocks=1, layers=("input", "output"))
    recipe = proposed("halves", "a:b", "halves", (0.02,), "Linf", 0, purifier)
    slow = {"rate": 1e-8, "batch": 8, "average": 0.0, "threads": 1}
    stages = {name: getattr(recipe, name).model_copy(update=slow) for name in ("purification", "hardening")}
    experiment = Experiment(
        recipe.model_copy(update=stages), tmp_path / "out", CPU, classifier=Halves().eval(), sets=(images, images)
    )
    experiment.carry_out()
    return experiment


def spoiled(experiment: Experiment) -> CARSO:
    """The defence, recalling white."""
    defence = experiment.defence()
    last = defence.purifier.get_submodule("decoder.0.last")
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    nn.init.constant_(last.bias, 40.0)
    return defence


def test_a_purifier_that_training_harmed_is_put_back(trained: Experiment) -> None:
    images = trained.validation.images
    before = trained.defence()
    weights.save_purifier(spoiled(trained), trained.out / weights.PURIFIER)
    assert (trained.defence().predict(images) == before.classifier(images).argmax(1)).float().mean() <= 0.5
    found = chosen(trained, BUDGETS, 10)
    assert found.kept == "untrained"
    assert found.rates["untrained"].correct == 10 > found.rates["hardened"].correct
    kept = trained.defence()
    assert torch.equal(kept.predict(images), kept.classifier(images).argmax(1))
    candidates = kept.recall(images[:2], 2)
    torch.testing.assert_close(candidates, images[:2, None].expand_as(candidates), atol=0.01, rtol=0.0)
    harmed = trained.defence()
    weights.restore_purifier(harmed.purifier, trained.out / TRAINED, harmed.classifier)
    assert harmed.recall(images[:1], 1).min() > 0.99


def test_a_choice_stands_and_one_that_was_broken_off_comes_out_the_same(
    trained: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.save_purifier(spoiled(trained), trained.out / weights.PURIFIER)
    first = chosen(trained, BUDGETS, 10)
    (trained.out / weights.CHOICE).unlink()
    assert chosen(trained, BUDGETS, 10) == first
    harmed = trained.defence()
    weights.restore_purifier(harmed.purifier, trained.out / TRAINED, harmed.classifier)
    assert harmed.recall(trained.validation.images[:1], 1).min() > 0.99
    monkeypatch.setattr(choice, "evaluate", lambda *_, **__: pytest.fail("chosen anew"))
    assert chosen(trained, BUDGETS, 10) == first


def test_a_training_that_helped_is_put_back_too(trained: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.save_purifier(spoiled(trained), trained.out / weights.PURIFIER)
    chosen(trained, BUDGETS, 10)
    (trained.out / weights.CHOICE).unlink()
    monkeypatch.setattr(choice, "best", lambda records: best(records).model_copy(update={"kept": "hardened"}))
    chosen(trained, BUDGETS, 10)
    assert trained.defence().recall(trained.validation.images[:1], 1).min() > 0.99


def test_a_damaged_choice_is_named(trained: Experiment) -> None:
    (trained.out / weights.CHOICE).write_text('{"kept": 3}')
    with pytest.raises(RunError, match=r"choice\.json: kept: .* not 3; delete it to choose again"):
        chosen(trained, BUDGETS, 10)
