from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from tests.fast.ballots import Vote, contested, expected
from tests.test_correction import IMAGES, LAYERS, defence
from torch import nn

from carso import CARSO
from carso.fast import faster, full_precision, voting
from carso.fast.corrected import CorrectedDefence, correct_defence, correct_vote
from carso.fast.products import product_dtype
from carso.fast.votes import FoldedVote
from carso.nn.resnet import ResNet
from carso.purifier import Purifier
from carso.recall import poll


@pytest.fixture(autouse=True)
def untyped() -> Iterator[None]:
    """Without the checks of types, in which a graph cannot be traced: as users run it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def trained(shift: int = 1, flip: bool = True) -> CARSO:
    some = defence(shift, flip)
    nn.init.normal_(some.purifier.decoder[0].last.weight, std=0.1)
    return some


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


@pytest.fixture(params=[(0, False), (2, False), (0, True), (1, True)])
def vote(request: pytest.FixtureRequest) -> Vote:
    """Small and contested, from several viewpoints."""
    some, latents = trained(*request.param), 3 * torch.randn(100, 4)
    classifier, purifier = some.classifier, some.purifier
    assert isinstance(classifier, ResNet)
    with torch.no_grad():
        codes = some.codes(IMAGES)
    return contested(classifier, purifier, latents, codes)


def made(vote: Vote, dtype: torch.dtype) -> FoldedVote:
    found = correct_vote(vote[0], vote[1], dtype)
    assert found is not None
    return found


@torch.no_grad()
@pytest.mark.parametrize("rows", [7, 64, 512])
def test_float32_votes_are_those_of_the_modules(vote: Vote, rows: int) -> None:
    form = made(vote, torch.float32)
    form.rows = rows
    assert len(vote[2]) > 20
    assert (expected(vote) > 0).sum(1).float().mean() > 1.5  # not unanimous
    assert torch.equal(form.votes(*vote[2:]), expected(vote))


@pytest.mark.skipif(
    product_dtype(torch.device("cpu")) is not torch.bfloat16, reason="this processor multiplies no bfloat16"
)
@torch.no_grad()
def test_bfloat16_changes_votes_unless_doubtful_ones_are_computed_again(vote: Vote) -> None:
    rounded = made(vote, torch.bfloat16)
    rounded.worth = 1
    rounded.prepare(*vote[2:])
    assert rounded.low is not None
    assert 0 < rounded.doubt < torch.inf
    assert torch.equal(rounded.votes(*vote[2:]), expected(vote))
    pairs = rounded.sums(vote[2][:1], vote[3]).all()
    assert not torch.equal(rounded.exact(pairs), rounded.low(pairs))


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
