import pytest
import torch
from tests.fast.ballots import Vote, expected, folded, made
from torch import nn

import carso
from carso import data, progress
from carso.attacks import pgd
from carso.errors import ModelError
from carso.fast import votes as module
from carso.fast.votes import fold_vote
from carso.nn import Contrast
from carso.types import Budget


@pytest.fixture
def vote() -> Vote:
    return folded()


@torch.no_grad()
def test_a_vote_in_several_parts_shows_its_progress(vote: Vote, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []
    monkeypatch.setattr(progress, "track", lambda parts, what: told.append((what, len(parts))) or parts)
    latents = vote[2][:50]
    made(fold_vote, vote, torch.float32).votes(latents, vote[3])
    assert told == []
    monkeypatch.setattr(module, "ROWS", 25)
    assert torch.equal(
        made(fold_vote, vote, torch.float32).votes(latents, vote[3]), expected((*vote[:2], latents, vote[3]))
    )
    assert told == [("votes of images", 20), *[("candidates", 2)] * 20]


@torch.no_grad()
def test_contrast_is_followed(vote: Vote) -> None:
    behind = (nn.Sequential(Contrast(0.3), vote[0]).eval(), *vote[1:])
    assert torch.equal(made(fold_vote, behind, torch.float32).votes(*vote[2:]), expected(behind))
    assert not torch.equal(expected(behind), expected(vote))


@torch.no_grad()
def test_bfloat16_changes_votes_unless_doubtful_ones_are_computed_again(
    vote: Vote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORTH", 1)
    rounded = made(fold_vote, vote, torch.bfloat16)
    rounded.prepare(*vote[2:])
    assert torch.equal(rounded.votes(*vote[2:]), expected(vote))
    rounded.doubt = -1.0
    assert not torch.equal(rounded.votes(*vote[2:]), expected(vote))


@torch.no_grad()
def test_a_vote_too_small_to_repay_it_is_float32(vote: Vote) -> None:
    small = made(fold_vote, vote, torch.bfloat16)
    small.prepare(*vote[2:])
    assert not small.low
    assert torch.equal(small.votes(*vote[2:]), expected(vote))


def test_no_ballot_for_what_does_not_fold(vote: Vote) -> None:
    assert fold_vote(lambda x: x, vote[1]) is None
    assert fold_vote(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(100, 3)).eval(), vote[1]) is None


@pytest.mark.parametrize("eps", [None, 0.3, 0.5])
@pytest.mark.parametrize("name", ["mnist-thesis", "mnist-strong"])
@torch.no_grad()
def test_shipped_defences_vote_as_by_their_modules(
    name: str, eps: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORTH", 1)
    defence, test = carso.load(name), data.load("mnist", "validation")
    images, labels = test.images[:12], test.required_labels[:12]
    if eps is not None:
        images = pgd(
            defence.classifier, images, labels, Budget("Linf", eps), generator=torch.Generator().manual_seed(0)
        )
    latents, codes = defence.latents(300, torch.Generator().manual_seed(0)), defence.codes(images)
    rounded = made(fold_vote, (defence.classifier, defence.purifier, latents, codes), torch.bfloat16)
    rounded.prepare(latents, codes)
    assert torch.equal(rounded.votes(latents, codes), expected((defence.classifier, defence.purifier, latents, codes)))


def test_a_code_that_is_no_number_gets_no_vote(vote: Vote) -> None:
    *_, latents, codes = vote
    codes[7, 0] = torch.nan
    with pytest.raises(ModelError, match="candidates have NaN"):
        made(fold_vote, vote, torch.float32).votes(latents, codes)
