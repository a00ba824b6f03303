from __future__ import annotations

import pytest
import torch
from tests.fast.ballots import VIEWPOINTS, Vote, corrected, expected, trained
from tests.test_correction import IMAGES, LAYERS
from torch import nn

from carso.fast import faster, full_precision, voting
from carso.fast.corrected import CorrectedDefence, correct_defence, correct_vote
from carso.purifier import Purifier
from carso.recall import poll

pytestmark = pytest.mark.usefixtures("untyped")


def test_the_form_answers_as_the_defence_does() -> None:
    some = trained()
    found = correct_defence(some.classifier, some.purifier, LAYERS, IMAGES)
    assert found is not None
    exact, _, batch = found
    assert batch >= 8
    shared, own = torch.randn(3, 4), torch.randn(4, 2, 4)
    torch.testing.assert_close(exact(IMAGES, shared), some.logits(IMAGES, latents=shared), atol=1e-4, rtol=1e-4)
    one_by_one = [some.logits(IMAGES[i : i + 1], latents=z) for i, z in enumerate(own)]
    torch.testing.assert_close(exact(IMAGES, own), torch.cat(one_by_one), atol=1e-4, rtol=1e-4)


def test_gradients_are_the_defence_s_and_weights_get_none() -> None:
    some = trained()
    with full_precision():
        quick = faster(some, IMAGES)
        assert isinstance(quick.folded, CorrectedDefence)
        slopes = []
        for model in (quick, some):
            images = IMAGES.clone().requires_grad_(True)
            model.surrogate(images, 4, generator=torch.Generator().manual_seed(1))[:, 0].sum().backward()
            slopes.append(images.grad)
    torch.testing.assert_close(*slopes, atol=1e-5, rtol=1e-3)
    assert all(p.grad is None for p in quick.folded.recalled.purifier.parameters())


def test_a_hooked_purifier_has_no_form() -> None:
    some = trained()
    some.purifier.decoder[0].register_forward_hook(lambda *_: None)
    assert correct_defence(some.classifier, some.purifier, LAYERS, IMAGES) is None


@pytest.fixture(params=VIEWPOINTS)
def vote(request: pytest.FixtureRequest) -> Vote:
    return corrected(*request.param)


@torch.no_grad()
def test_a_poll_of_many_candidates_comes_to_the_door(vote: Vote) -> None:
    classifier, purifier, latents, codes = vote
    many = latents.repeat(3, 1)
    cast = voting(classifier, purifier, many, codes)
    assert cast is not None
    assert torch.equal(cast(many, codes), 3 * expected(vote))
    assert torch.equal(poll(classifier, purifier, many, codes, "never", 1e-4).counts, 3 * expected(vote))


@torch.no_grad()
def test_votes_are_the_modules_where_the_form_answers_otherwise(vote: Vote, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, purifier, latents, codes = vote
    before, many, forward = expected(vote), latents.repeat(3, 1), nn.BatchNorm2d.forward
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, a: forward(self, a).square())
    changed = expected((classifier, purifier, many, codes))
    assert (changed - 3 * before).abs().sum() > 40
    assert voting(classifier, purifier, many, codes) is None
    found = poll(classifier, purifier, many, codes, "never", 1e-4).counts
    assert (found - changed).abs().sum() <= 4  # for those that rounding moves across a boundary


@torch.no_grad()
def test_what_does_not_correct_or_is_hooked_has_no_vote() -> None:
    some = trained()
    assert correct_vote(some.classifier, Purifier((3, 16, 16), 10)) is None
    assert correct_vote(lambda x: x, some.purifier) is None
    some.purifier.decoder[0].register_forward_hook(lambda *_: None)
    assert correct_vote(some.classifier, some.purifier) is None
