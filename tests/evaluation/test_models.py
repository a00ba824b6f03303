from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.attacks.objective import is_random
from carso.correction import CorrectivePurifier
from carso.data import Dataset
from carso.data.labelled import names_of
from carso.detection import Confidence
from carso.errors import ModelError
from carso.evaluation.models import (
    Defence,
    Followed,
    Models,
    Outcome,
    answer,
    exposed,
    fingerprint,
    hidden,
    plain,
    weights_of,
)
from carso.nn import MLP, Adapted
from carso.nn.fiwagr import randomised
from carso.rivals import Augmented, DefenseGAN, DiffusionPurified, Smoothed, WinnersTakeAll
from carso.rivals.defense_gan import Generator, encoder
from carso.rivals.diffusion import DDPM

Making = Callable[[nn.Module], nn.Module]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_carso_is_a_defence_and_its_classifier_is_not(columns: Models) -> None:
    assert isinstance(columns["carso"], Defence)
    assert not isinstance(columns["adversarially_trained"], Defence)


def test_an_attack_sees_the_classifier_or_the_whole(columns: Models) -> None:
    assert exposed(columns["carso"], "classifier") is columns["adversarially_trained"]
    assert exposed(columns["carso"], "defence") is columns["carso"]
    assert exposed(columns["undefended"], "defence") is columns["undefended"]


def test_a_classifier_answers_with_its_largest_logit(columns: Models, dataset: Dataset) -> None:
    outcome = answer(columns["undefended"], dataset.images, generator())
    assert torch.equal(outcome.predicted.long(), columns["undefended"](dataset.images).argmax(1))
    assert outcome.counts is None
    assert outcome.shares() is None


def test_a_classifier_that_turns_images_away_is_attacked_and_told_apart_as_by_itself(
    columns: Models, dataset: Dataset
) -> None:
    classifier = columns["undefended"]
    classifier.class_names = ("a", "b")
    sure = Confidence(classifier)
    sure.calibrate(dataset.images)
    for aim in ("classifier", "defence"):
        assert exposed(sure, aim) is classifier
    assert fingerprint(sure) == fingerprint(classifier)
    assert weights_of(sure) == weights_of(classifier)
    assert names_of(sure) == ("a", "b")
    sure.class_names = ("c", "d")
    assert names_of(sure) == ("c", "d")
    outcome = answer(sure, dataset.images, generator(), reject_at=0.2)
    detection = sure.detect(dataset.images, 0.2)
    assert torch.equal(outcome.predicted.long(), detection.classes)
    assert torch.equal(outcome.accepted.bool(), detection.accepted)
    assert 0 < (~detection.accepted).sum() < len(dataset)
    assert answer(sure, dataset.images, generator()).accepted is None


class Rounded(nn.Module):
    """Behind a purifier without a slope."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def purify(self, images: Tensor) -> Tensor:
        """Eight levels."""
        return (8 * images).round() / 8

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        scores: Tensor = self.classifier(self.purify(images))
        return scores


class Straight(Rounded):
    """The same with the slope of the identity for whoever attacks."""

    def surrogate(self, images: Tensor) -> Tensor:
        """Logits."""
        scores: Tensor = self.classifier(images + (self.purify(images) - images).detach())
        return scores


def test_an_attack_on_the_classifier_sees_the_one_behind_any_purifier(columns: Models) -> None:
    classifier = columns["undefended"]
    assert isinstance(classifier, nn.Module)
    for column in (Rounded(classifier), Straight(classifier), Confidence(Straight(classifier))):
        assert exposed(column, "classifier") is classifier
        assert not hidden(column)


def test_an_attack_follows_the_surrogate_of_whatever_has_one_and_never_rests_there(
    columns: Models, dataset: Dataset
) -> None:
    classifier = columns["undefended"]
    assert isinstance(classifier, nn.Module)
    straight, vote = Straight(classifier), Smoothed(classifier, samples=3)
    seen = exposed(straight, "defence")
    assert seen == Followed(straight)
    torch.testing.assert_close(seen(dataset.images), straight.surrogate(dataset.images).log_softmax(1))
    assert is_random(seen, dataset.images)
    assert exposed(vote, "classifier") == exposed(vote, "defence") == Followed(vote)


def test_columns_whose_exposure_never_changed_are_told_from_the_others(columns: Models) -> None:
    classifier = columns["undefended"]
    assert isinstance(classifier, nn.Module)
    assert all(map(plain, (*columns.values(), Confidence(classifier))))
    changed = (Rounded(classifier), Straight(classifier), Smoothed(classifier), Confidence(Straight(classifier)))
    assert not any(map(plain, changed))


def test_whatever_shows_no_classifier_is_attacked_itself(columns: Models) -> None:
    classifier = columns["undefended"]
    assert isinstance(classifier, nn.Module)
    assert hidden(Smoothed(classifier))
    assert hidden(lambda images: classifier(images))
    assert not any(map(hidden, columns.values()))


def test_a_defence_answers_with_its_vote(columns: Models, dataset: Dataset) -> None:
    tally = columns["carso"].poll(dataset.images, samples=30, stop="never", generator=generator())
    outcome = answer(columns["carso"], dataset.images, generator(), samples=30, stop="never")
    assert torch.equal(outcome.predicted.long(), tally.winners)
    assert torch.equal(outcome.counts.long(), tally.counts)
    assert outcome.samples.unique().tolist() == [30]
    torch.testing.assert_close(outcome.shares(), tally.shares)


@pytest.mark.parametrize(("aggregation", "samples"), [("mean-probability", 5), ("peel", 500)])
def test_another_aggregation_answers_with_its_scores(
    columns: Models, dataset: Dataset, aggregation: str, samples: int
) -> None:
    columns["carso"].aggregation = aggregation
    columns["carso"].samples = samples
    infinite = columns["carso"](dataset.images, generator()).isinf().any()
    assert infinite == (aggregation == "peel")
    outcome = answer(columns["carso"], dataset.images, generator())
    assert torch.equal(outcome.predicted.long(), columns["carso"](dataset.images, generator()).argmax(1))
    assert outcome.counts is None


def test_another_aggregation_is_of_as_many_candidates_as_are_asked_for(columns: Models, dataset: Dataset) -> None:
    columns["carso"].aggregation = "mean-logit"
    few = answer(columns["carso"], dataset.images, generator(), samples=3).predicted
    asked = columns["carso"].samples
    columns["carso"].samples = 3
    assert asked != 3
    assert torch.equal(few, answer(columns["carso"], dataset.images, generator()).predicted)


def test_a_training_mode_is_given_back(columns: Models, dataset: Dataset) -> None:
    model = columns["undefended"].train()
    first, second = (answer(model, dataset.images, generator()).predicted for _ in range(2))
    assert torch.equal(first, second)
    assert model.training


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda x: x.flatten(1)[:, 0], r"\(50,\)"),
        (lambda x: x.flatten(1)[:3], r"\(3, 36\)"),
        (lambda x: "seven", "str"),
        (lambda x: x.flatten(1) * torch.nan, "NaN"),
    ],
)
def test_a_column_that_returns_no_scores_is_refused(dataset: Dataset, broken: Callable[..., Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        answer(broken, dataset.images, generator())


def test_joined_outcomes_keep_the_order() -> None:
    halves = [Outcome(predicted=torch.tensor([i]), samples=torch.tensor([i]), counts=torch.eye(2)[[i]]) for i in (0, 1)]
    joined = Outcome.join(halves)
    assert joined.predicted.tolist() == joined.samples.tolist() == [0, 1]
    assert torch.equal(joined.counts, torch.eye(2))


def test_the_fingerprint_follows_the_weights(columns: Models) -> None:
    model = columns["undefended"]
    before = fingerprint(model)
    assert before == fingerprint(model) != fingerprint(columns["adversarially_trained"])
    with torch.no_grad():
        model.logits.bias[0] += 1e-3
    assert fingerprint(model) != before
    assert fingerprint(MLP()) != fingerprint(MLP(output="mish-log-softmax"))
    before = fingerprint(columns["carso"])
    columns["carso"].stop = "exact"
    assert fingerprint(columns["carso"]) != before
    function = torch.sin
    assert fingerprint(function) != fingerprint(function)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda n: Smoothed(n, 0.25), lambda n: Smoothed(n, 1.0)),
        (lambda n: Augmented(n, shift=1), lambda n: Augmented(n, shift=4)),
        (lambda n: WinnersTakeAll(n, 0.1), lambda n: WinnersTakeAll(n, 0.5)),
        (lambda n: gan(n, steps=2), lambda n: gan(n, steps=200)),
        (lambda n: diffused(n, 0.1), lambda n: diffused(n, 0.2)),
        (lambda n: diffused(n, 0.1, 100), lambda n: diffused(n, 0.05, 200)),
        (lambda n: Adapted(n, output="logits"), lambda n: Adapted(n, output="aux")),
        (lambda n: masked(n, 0.0), lambda n: masked(n, 1.0)),
        (lambda n: n, lambda n: noisy(n, 1.0)),
        (lambda n: noisy(n, 1.0), lambda n: noisy(n, 2.0)),
    ],
)
def test_the_fingerprint_follows_the_settings(one: Making, other: Making) -> None:
    n = MLP((1, 4, 4), (8,), 3).eval()
    first, again, second = (fingerprint(make(copy.deepcopy(n))) for make in (one, one, other))
    assert first == again != second


def gan(classifier: nn.Module, steps: int) -> DefenseGAN:
    torch.manual_seed(0)
    return DefenseGAN(classifier, Generator((1, 4, 4), 2, (3,)), encoder((1, 4, 4), 2, (3,)), steps=steps)


def noisy(classifier: nn.Module, sigma: float) -> Smoothed:
    randomised(classifier.linear1, sigma)
    return classifier


def diffused(classifier: nn.Module, t: int, horizon: int = 1000) -> DiffusionPurified:
    return DiffusionPurified(classifier, DDPM(nn.Identity(), horizon), t=t)


def masked(classifier: nn.Module, value: Any) -> Any:
    classifier.register_buffer("mask", torch.full((3,), value), persistent=False)
    return classifier


def test_the_fingerprint_follows_how_candidates_are_viewed() -> None:
    prints = []
    for options in ({}, {"shift": 2}, {"flip": True}):
        torch.manual_seed(0)
        prints.append(fingerprint(CorrectivePurifier((3, 8, 8), [[3, 8, 8]], latent=4, **options)))
    assert len(set(prints)) == 3
