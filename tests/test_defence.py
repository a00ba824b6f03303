import pytest
import torch
from torch import nn

import carso
from carso.errors import DataError, ModelError
from carso.nn import MLP
from carso.purifier import Purifier
from carso.recall import classify


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def defence() -> carso.CARSO:
    torch.manual_seed(0)
    classifier = MLP((1, 8, 8), (12, 7))
    for _ in range(30):
        classifier(torch.rand(32, 1, 8, 8))
    with torch.no_grad():
        classifier.logits.weight.mul_(3)
    purifier = Purifier((1, 8, 8), 29, latent=6)
    with torch.no_grad():
        purifier.representation_encoder[-2].weight.mul_(20)
        purifier.decoder[0].weight.mul_(10)
        purifier.decoder[-2].weight.mul_(15)
    return carso.CARSO(classifier, purifier, samples=120).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(23, 1, 8, 8, generator=seeded())


def test_the_answer_is_the_mode_of_the_classes_of_recalled_images(defence: carso.CARSO, images: torch.Tensor) -> None:
    latents = defence.latents(generator=seeded())
    with torch.no_grad():
        candidates = defence.recall(images, latents=latents)
        classes = classify(defence.classifier, candidates).argmax(2)
    assert candidates.shape == (23, 120, 1, 8, 8)
    expected = torch.mode(classes, dim=1).values
    assert torch.equal(defence.poll(images, stop="never", generator=seeded()).winners, expected)
    assert len(expected.unique()) > 1


def test_votes_sum_to_the_samples(defence: carso.CARSO, images: torch.Tensor) -> None:
    assert (defence.votes(images).sum(1) == 120).all()


def test_the_exact_stop_gives_the_full_answer(defence: carso.CARSO, images: torch.Tensor) -> None:
    full = defence.poll(images, stop="never", generator=seeded())
    early = defence.poll(images, stop="exact", generator=seeded())
    assert torch.equal(full.winners, early.winners)
    assert (early.samples < 120).any()


def test_a_seed_gives_one_answer_whatever_the_batch_and_the_order(defence: carso.CARSO, images: torch.Tensor) -> None:
    whole = defence(images, seeded(5))
    parts = torch.cat([defence(some, seeded(5)) for some in images.split(4)])
    order = torch.randperm(len(images), generator=seeded())
    assert torch.equal(whole, parts)
    assert torch.equal(whole[order], defence(images[order], seeded(5)))


def test_latents_are_fresh_each_call(defence: carso.CARSO, images: torch.Tensor) -> None:
    assert not torch.equal(defence.recall(images[:2], samples=3), defence.recall(images[:2], samples=3))
    assert not torch.equal(defence.surrogate(images[:2], samples=3), defence.surrogate(images[:2], samples=3))


def test_recall_and_surrogate_are_differentiable(defence: carso.CARSO, images: torch.Tensor) -> None:
    x = images[:3].clone().requires_grad_()
    assert defence.surrogate(x, samples=4).shape == (3, 10)
    (gradient,) = torch.autograd.grad(defence.surrogate(x, samples=4)[:, 0].sum(), x)
    assert gradient.abs().sum() > 0
    (gradient,) = torch.autograd.grad(defence.recall(x, samples=4).sum(), x)
    assert gradient.abs().sum() > 0


def test_the_surrogate_is_the_mean_log_probability(defence: carso.CARSO, images: torch.Tensor) -> None:
    latents = defence.latents(5, seeded())
    logits = defence.logits(images, latents=latents)
    torch.testing.assert_close(defence.surrogate(images, latents=latents), logits.log_softmax(2).mean(1))


def test_the_vote_has_no_gradient(defence: carso.CARSO, images: torch.Tensor) -> None:
    assert not defence(images.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("rule", ["mean", "exponential"])
def test_smooth_rules_give_probabilities(defence: carso.CARSO, images: torch.Tensor, rule: str) -> None:
    smooth = carso.CARSO(defence.classifier, defence.purifier, samples=11, rule=rule)
    scores = smooth(images, seeded())
    torch.testing.assert_close(scores.sum(1), torch.ones(len(images)))
    assert torch.equal(smooth.predict(images, seeded()), scores.argmax(1))


def test_one_sample_votes_for_its_class(defence: carso.CARSO, images: torch.Tensor) -> None:
    latents = defence.latents(1, seeded())
    single = defence.poll(images, samples=1, generator=seeded())
    assert torch.equal(single.winners, defence.logits(images, latents=latents).argmax(2)[:, 0])


def test_a_classifier_in_train_mode_stays_there() -> None:
    classifier = MLP((1, 8, 8), (12, 7))
    wrapped = carso.CARSO(classifier, Purifier((1, 8, 8), 29, latent=6), samples=10)
    classifier.train()
    before = classifier.norm1.running_mean.clone()
    wrapped.predict(torch.rand(4, 1, 8, 8))
    wrapped.surrogate(torch.rand(4, 1, 8, 8))
    assert classifier.training
    assert torch.equal(before, classifier.norm1.running_mean)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.rand(2, 1, 7, 8), "shape"),
        (torch.rand(2, 1, 8, 8) * 255, r"\[0, 1\]"),
        (torch.full((2, 1, 8, 8), float("nan")), "NaN"),
    ],
)
def test_bad_images_are_named(defence: carso.CARSO, bad: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        defence.predict(bad)
    with pytest.raises(DataError, match=message):
        defence.surrogate(bad)


def test_other_layers_than_the_purifier_was_made_for_are_refused() -> None:
    with pytest.raises(ModelError, match="made for 28 neurons"):
        carso.CARSO(MLP((1, 8, 8), (12, 7)), Purifier((1, 8, 8), 28))


def test_a_classifier_of_probabilities_is_refused() -> None:
    with pytest.raises(ModelError, match="probabilities"):
        carso.CARSO(nn.Sequential(MLP((1, 8, 8)), nn.Softmax(1)), Purifier((1, 8, 8), 290))
