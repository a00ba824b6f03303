import pytest
import torch
from tests.evaluation.test_models import Rounded
from torch import Tensor, nn

from carso.data import Dataset
from carso.detection import Confidence
from carso.evaluation import gallery
from carso.evaluation.models import Models, Outcome


@pytest.fixture
def labels() -> Tensor:
    return torch.zeros(40, dtype=torch.int32)


def outcome(predicted: list[int], counts: list[list[int]] | None = None) -> Outcome:
    votes = None if counts is None else torch.tensor(counts)
    return Outcome(predicted=torch.tensor(predicted), counts=votes, samples=None if votes is None else votes.sum(1))


def test_each_rule_picks_what_it_says(labels: Tensor) -> None:
    """Images 0-9: both right, 10-19: only the defence, 20-29: only N, 30-39: neither; margins grow with the index."""
    ours = outcome([0] * 20 + [1] * 20, [[50 + i, 50 - i] for i in range(20)] + [[10, 90]] * 20)
    theirs = outcome(([0] * 10 + [1] * 10) * 2)
    for seed in range(20):
        chosen = gallery.choose(labels, ours, theirs, torch.Generator().manual_seed(seed))
        by_rule = {rule: [i for i, r in chosen.items() if r == rule] for rule in gallery.PICKS}
        assert {rule: len(found) for rule, found in by_rule.items()} == gallery.PICKS
        narrow = [i for i in range(20) if i not in by_rule["random"]][:2]
        assert by_rule["narrow win"] == narrow
        assert all(i >= 20 for i in by_rule["failure"])
        assert all(10 <= i < 20 for i in by_rule["only defence right"])
        assert all(20 <= i < 30 for i in by_rule["only classifier right"])


def test_random_picks_depend_on_the_seed_alone(labels: Tensor) -> None:
    wrong, right = outcome([1] * 40), outcome([0] * 40)
    picks = [
        [
            i
            for i, rule in gallery.choose(labels, ours, None, torch.Generator().manual_seed(seed)).items()
            if rule == "random"
        ]
        for ours, seed in ((wrong, 0), (right, 0), (right, 1))
    ]
    assert picks[0] == picks[1] != picks[2]


def test_without_votes_or_rival_those_rules_pick_nothing(labels: Tensor) -> None:
    chosen = gallery.choose(labels, outcome([0] * 40), None, torch.Generator().manual_seed(0))
    assert set(chosen.values()) == {"random"}


def test_measures_the_perturbation_and_averages_the_recollections(columns: Models, dataset: Dataset) -> None:
    attacked = dataset.images.clone()
    attacked[3] = (attacked[3] + 0.1).clamp(max=1)
    hung = gallery.hang(columns, {3: "random", 7: "failure"}, dataset.images, attacked, seed=0)
    assert hung.linf.tolist() == pytest.approx([0.1, 0.0], abs=1e-6)
    assert hung.l2[0] == pytest.approx((attacked[3] - dataset.images[3]).norm().item(), rel=1e-6)
    assert torch.equal(hung.attacked, attacked[[3, 7]])
    assert hung.recalled.shape == (2, gallery.SHOWN, 1, 6, 6)
    assert hung.mean.shape == (2, 1, 6, 6)
    assert (hung.column, hung.classifier) == ("carso", "adversarially_trained")
    assert hung.averaged == gallery.AVERAGED
    bare = gallery.hang({"undefended": columns["undefended"]}, {3: "random"}, dataset.images, attacked, seed=0)
    assert bare.recalled is None


def test_the_subject_is_the_defence_and_its_rival_the_classifier_inside(columns: Models) -> None:
    assert gallery.subject(columns) == "carso"
    assert gallery.rival(columns) == "adversarially_trained"
    assert gallery.rival({"undefended": columns["undefended"]}) is None


def test_the_subject_may_be_a_purifier_of_whatever_kind(columns: Models) -> None:
    bare = columns["undefended"]
    assert isinstance(bare, nn.Module)
    mine = Rounded(bare)
    for held in ({"bare": bare, "mine": mine}, {"mine": mine, "bare": bare}):
        assert gallery.subject(held) == "mine"
        assert gallery.rival(held) == "bare"
    assert gallery.subject(columns | {"mine": mine}) == "carso"
    sure = {"bare": bare, "sure": Confidence(bare)}
    assert (gallery.subject(sure), gallery.rival(sure)) == ("sure", None)
