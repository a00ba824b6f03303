from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.evaluation.test_models import Rounded, Straight
from torch import Tensor, nn

from carso.data.dataset import Dataset
from carso.errors import NoGradientError
from carso.evaluation import Results, Row, Settings, evaluate, read_records
from carso.evaluation.flatness import flat
from carso.evaluation.models import Models
from carso.report.table import markdown
from carso.rivals import Smoothed
from carso.types import Budget

ROWS = (
    Row("none", foreseen=True),
    Row("pgd", Budget("Linf", 0.2), options={"steps": 5}),
    Row("deepfool", Budget("Linf", 0.2), options={"steps": 5}),
    Row("pgd-eot", Budget("Linf", 0.2), directed_at="defence", options={"steps": 5}),
)
SETTINGS = Settings(curve_images=0, sweep_images=0)


@pytest.fixture
def classifier(columns: Models) -> nn.Module:
    """One of four classes."""
    found = columns["undefended"]
    assert isinstance(found, nn.Module)
    return found


@pytest.fixture
def labelled(classifier: nn.Module, dataset: Dataset) -> Dataset:
    """Images that the classifier is right on."""
    return Dataset("noise", dataset.images, classifier(dataset.images).argmax(1), tuple("abcd"))


def results_of(dataset: Dataset, **columns: nn.Module) -> Results:
    return evaluate(columns, dataset, ROWS, SETTINGS, curve_rows=(), sweep_rows=()).results()


def test_a_purifier_is_attacked_through_what_follows_it(classifier: nn.Module, labelled: Dataset) -> None:
    """Eight levels hide little from who knows the classifier or a surrogate, and much from who follows a zero."""
    found = results_of(labelled, mine=Straight(classifier))
    assert found.hidden == found.flat == []
    assert not found.whole
    clean, *attacked = (row.rates()["mine"].accuracy for row in found.rows)
    assert max(attacked) <= clean / 2
    naive = results_of(labelled, mine=Rounded(classifier)).rows[-1].rates()["mine"]
    assert naive.accuracy > attacked[-1] + 20


def test_a_vote_is_attacked_through_its_surrogate_and_told_to_be_hidden(
    classifier: nn.Module, labelled: Dataset
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = results_of(labelled, vote=Smoothed(classifier, sigma=0.05, samples=20))
    clean, attacked = (row.rates()["vote"].accuracy for row in found.rows[:2])
    assert attacked < clean - 10
    assert found.whole
    text = markdown(found)
    assert "### On the column itself" in text
    assert "bare classifier" not in text
    mixed = found.model_copy(update={"hidden": ["vote", "other"]})
    mixed.rows[0].others["bare"] = mixed.rows[0].rates()["vote"]
    assert "No classifier can be seen in vote, other" in markdown(mixed)


def test_a_gradient_that_vanishes_is_told_beside_the_figures(classifier: nn.Module, labelled: Dataset) -> None:
    found = results_of(labelled, bare=classifier, mine=Rounded(classifier))
    assert found.flat == ["mine"]
    assert "The gradient of mine is zero on most images" in markdown(found)
    assert "carso audit" in markdown(found)
    assert not flat(Rounded(classifier), ["classifier"], labelled.images, labelled.required_labels)
    assert flat(Rounded(classifier), ["classifier", "defence"], labelled.images, labelled.required_labels)


def test_a_gradient_that_vanishes_is_told_of_the_rows_that_are_there(
    classifier: nn.Module, labelled: Dataset, tmp_path: Path
) -> None:
    """An attack on the whole finds none, whichever rows come after it; a curve of no images has no attack."""
    mine = {"mine": Rounded(classifier)}
    for rows in ((ROWS[3],), (ROWS[1],)):
        found = evaluate(mine, labelled, rows, SETTINGS, curve_rows=(), sweep_rows=(), directory=tmp_path)
        assert found.flat == read_records(tmp_path).flat == ["mine"]
    assert not evaluate(mine, labelled, ROWS[:2], SETTINGS, curve_rows=(ROWS[3],), sweep_rows=()).flat


def test_a_gradient_is_looked_for_on_no_more_images_than_fit(classifier: nn.Module, labelled: Dataset) -> None:
    asked = []

    class Full(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            asked.append(len(images))
            scores: Tensor = classifier(images)
            return scores

    evaluate({"mine": Full()}, labelled, ROWS[:2], replace(SETTINGS, chunk=10), curve_rows=(), sweep_rows=())
    assert max(asked) == 10


def test_saturated_scores_have_no_gradient_either(classifier: nn.Module, labelled: Dataset) -> None:
    def sure(images: Tensor) -> Tensor:
        scores: Tensor = 1e5 * classifier(images)
        return scores

    assert flat(sure, ["classifier"], labelled.images, labelled.required_labels)


def test_what_has_none_at_all_is_sent_to_an_audit(classifier: nn.Module, labelled: Dataset) -> None:
    class Vote(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                return nn.functional.one_hot(classifier(images).argmax(1), 4).float()

    with pytest.raises(NoGradientError, match="carso audit"):
        results_of(labelled, vote=Vote())
