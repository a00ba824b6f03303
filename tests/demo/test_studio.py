import copy

import pytest
import torch
from torch import nn

from carso.correction import CorrectivePurifier
from carso.data import Dataset
from carso.defence import CARSO
from carso.demo.studio import ATTACKS, Studio
from carso.detection import Calibration
from carso.errors import DataError, ModelError
from carso.nn import MLP
from carso.purifier import Purifier
from carso.recall import recall
from carso.vote import Aggregation


@pytest.mark.parametrize("aim", ["classifier", "defence"])
@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_stay_within_their_ball_and_repeat(studio: Studio, name: str, norm: str, aim: str) -> None:
    image, _ = studio.pick(3)
    eps = 0.2 if norm == "Linf" else 1.5
    first, again = (studio.attack(image, name, norm, eps, aim, seed=4) for _ in range(2))
    moved = (first - image).flatten()
    assert moved.norm(p={"Linf": torch.inf, "L2": 2, "L1": 1}[norm]) <= eps + 1e-6
    assert torch.equal(first, again)
    assert (name == "none") == torch.equal(first, image)


def test_an_unknown_attack_is_named(studio: Studio) -> None:
    with pytest.raises(DataError, match="no attack 'magic'"):
        studio.attack(studio.pick(0)[0], "magic", "Linf", 0.1, "classifier")


def test_the_vote_ends_as_the_defence_votes(studio: Studio) -> None:
    image, _ = studio.pick(1)
    rounds_ = list(studio.vote(image, seed=7))
    tally = studio.defence.poll(image, stop="confident", generator=torch.Generator().manual_seed(7))
    assert [round_.decided for round_ in rounds_] == [False] * (len(rounds_) - 1) + [True]
    assert rounds_[-1].counts == tally.counts[0].tolist()
    assert rounds_[-1].samples == tally.samples.item()
    assert all(sum(round_.counts) == round_.samples for round_ in rounds_)


@pytest.mark.parametrize(("lowest", "believed"), [(-1e9, True), (0.0, False)])
def test_the_end_of_a_vote_says_whether_it_is_believed(
    studio: Studio, lowest: float, believed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agreement is negative, so that a threshold of 0 turns everything away."""
    assert [round_.believed for round_ in studio.vote(studio.pick(1)[0])][-1] is None
    monkeypatch.setattr(studio.defence, "calibration", Calibration(100, (lowest,) * 20))
    *before, last = studio.vote(studio.pick(1)[0], seed=7)
    assert last.believed is believed
    assert {round_.believed for round_ in before} == {None}
    monkeypatch.setattr(studio.defence, "calibration", Calibration(50, (lowest,) * 10))
    assert list(studio.vote(studio.pick(1)[0]))[-1].believed is None  # fifty images promise no hundredth


def test_what_fails_as_the_witnesses_are_heard_is_told(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ModelError("broken")

    monkeypatch.setattr(studio.defence, "calibration", Calibration(100, (0.0,) * 20))
    monkeypatch.setattr(studio.defence, "agreement", broken)
    with pytest.raises(ModelError, match="broken"):
        list(studio.vote(studio.pick(1)[0]))


def test_a_whole_vote_counts_every_candidate(studio: Studio) -> None:
    image, _ = studio.pick(1)
    rounds_ = list(studio.vote(image, seed=7, whole=True))
    assert [round_.samples for round_ in rounds_] == [20, 40, 60]
    assert [round_.decided for round_ in rounds_] == [False, False, True]
    assert rounds_[-1].counts == studio.defence.votes(image, torch.Generator().manual_seed(7))[0].tolist()


def test_every_candidate_that_is_shown_comes_with_its_vote(studio: Studio) -> None:
    for round_ in studio.vote(studio.pick(4)[0]):
        assert round_.votes == studio.defence.classifier(round_.candidates).argmax(1).tolist()


def test_what_is_elected_is_what_the_vote_ends_with(studio: Studio) -> None:
    image, _ = studio.pick(6)
    *_, last = studio.vote(image, seed=3)
    elected = studio.elected(image, seed=3)
    assert last.elected == elected.label
    assert elected.shares == pytest.approx([votes / last.samples for votes in last.counts])
    assert elected.label == max(range(10), key=last.counts.__getitem__)


@pytest.mark.parametrize("aggregation", ["mean-logit", "mean-probability", "exponential", "peel"])
def test_another_aggregation_elects_by_all_candidates(studio: Studio, aggregation: Aggregation) -> None:
    own = studio.defence
    loud = CARSO(copy.deepcopy(own.classifier), own.purifier, samples=60, aggregation=aggregation)
    with torch.no_grad():
        list(loud.classifier.parameters())[-2].mul_(50)
    seeds = range(3)
    votes = [list(Studio(loud).vote(studio.pick(1)[0], seed=seed)) for seed in seeds]
    own_answers = [int(loud.predict(studio.pick(1)[0], torch.Generator().manual_seed(seed))) for seed in seeds]
    assert [vote[-1].elected for vote in votes] == own_answers
    assert [Studio(loud).elected(studio.pick(1)[0], seed).label for seed in seeds] == own_answers
    assert {(len(vote), vote[-1].samples) for vote in votes} == {(3, 60)}


def test_a_round_is_decoded_in_parts_where_it_is_too_large(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(studio.vote(studio.pick(1)[0], whole=True))
    sizes: list[int] = []

    def noted(purifier: Purifier, latents: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        sizes.append(len(latents))
        return recall(purifier, latents, codes)

    monkeypatch.setattr("carso.demo.studio.recall", noted)
    monkeypatch.setattr("carso.demo.studio.at_a_time", lambda purifier: 8)
    parts = list(studio.vote(studio.pick(1)[0], whole=True))
    assert [round_.counts for round_ in parts] == [round_.counts for round_ in whole]
    assert [len(round_.candidates) for round_ in parts] == [20, 20, 20]
    assert max(sizes) == 8


class Writing(nn.Module):
    """A network in double precision that centres its input in place."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 4)
        self.double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(images.sub_(0.5).flatten(1))


def test_a_network_that_writes_into_its_input_or_takes_doubles_is_asked_as_elsewhere() -> None:
    torch.manual_seed(0)
    strange = Studio(CARSO(Writing().eval(), Purifier((1, 8, 8), 4, latent=2), ["last"], samples=20))
    image = torch.rand(1, 1, 8, 8)
    kept = image.clone()
    strange.answers(image)
    attacked = strange.attack(image, "fgsm", "Linf", 0.1, "classifier")
    assert torch.equal(image, kept)
    assert (attacked - image).abs().max() <= 0.1 + 1e-6


def test_the_walk_is_along_the_latents_that_the_decoder_heeds() -> None:
    purifier = Purifier((1, 28, 28), 40, latent=4)
    with torch.no_grad():
        purifier.decoder[0].weight[:, [0, 2]] = 0
    walked = Studio(CARSO(MLP((1, 28, 28), (30,)).eval(), purifier))
    image = torch.rand(1, 1, 28, 28)
    assert sorted(walked.axes) == [1, 3]
    assert not torch.equal(walked.walk(image, 2.0, 0.0), walked.walk(image, -2.0, 0.0))
    assert not torch.equal(walked.walk(image, 0.0, 2.0), walked.walk(image, 0.0, -2.0))


@pytest.mark.parametrize("pictures", [None, Dataset("two", torch.rand(2, 1, 8, 8))])
def test_the_walk_is_along_viewpoints_where_they_are_what_moves_an_image(pictures: Dataset | None) -> None:
    """Before its training a corrector heeds no latent, however long the columns of its first layer are."""
    purifier = CorrectivePurifier((1, 8, 8), [(1, 8, 8)], latent=5, width=8, channels=2, blocks=1, shift=1)
    with torch.no_grad():
        purifier.decoder[0].latents.weight[:, [1, 2]] = 0
    walked = Studio(CARSO(MLP((1, 8, 8), (6,)).eval(), purifier.eval(), ["input"], samples=20), dataset=pictures)
    assert sorted(walked.axes) == [1, 2]


def test_the_walk_is_the_decoder_at_two_latents(studio: Studio) -> None:
    image, _ = studio.pick(2)
    latents = torch.zeros(1, 4)
    latents[0, studio.axes] = torch.tensor([1.5, -0.5])
    expected = studio.defence.recall(image, latents=latents)[:, 0]
    torch.testing.assert_close(studio.walk(image, 1.5, -0.5), expected)


def test_answers_are_those_of_the_classifiers(studio: Studio) -> None:
    image, _ = studio.pick(5)
    undefended, trained = studio.answers(image)
    assert trained.label == studio.defence.classifier(image).argmax().item()
    assert sum(undefended.shares) == pytest.approx(1, abs=1e-5)


def test_images_without_labels_can_be_picked(studio: Studio) -> None:
    assert studio.dataset is not None
    unlabelled = Studio(studio.defence, dataset=Dataset("unlabelled", studio.dataset.images))
    image, label = unlabelled.pick(21)
    assert torch.equal(image, studio.pick(1)[0])
    assert label is None


def test_other_shapes_need_neither_data_nor_an_undefended_model() -> None:
    colour = Studio(CARSO(MLP((3, 8, 8), (6,), 4, mean=(0.5,) * 3, std=(0.2,) * 3).eval(), Purifier((3, 8, 8), 10, 1)))
    image = torch.rand(1, 3, 8, 8)
    assert colour.walk(image, 1.0, 1.0).shape == image.shape
    assert [answer.model for answer in colour.answers(image)] == ["adversarially_trained"]
    assert colour.classes == ["0", "1", "2", "3"]
    assert (
        Studio(colour.defence, dataset=Dataset("two", image, torch.tensor([0]), ("a", "b"))).classes == colour.classes
    )
    with pytest.raises(DataError, match="draw or upload"):
        colour.pick(0)
