import pytest
import torch
from tests.fast.ballots import Vote, convolved, expected, made
from torch import nn

from carso.fast import voting
from carso.fast.convolved import convolve_vote
from carso.fast.network import network
from carso.nn import MLP, Adapted
from carso.purifier import Purifier
from carso.recall import poll


@pytest.fixture
def vote() -> Vote:
    return convolved()


@torch.no_grad()
def test_batch_norms_vanish_into_transposed_convolutions(vote: Vote) -> None:
    activation, maps, *layers = vote[1].decoder[1:-1]
    body, example = nn.Sequential(activation, *layers).eval(), torch.rand(3, *maps.unflattened_size) - 0.5
    folded = network(body, example)
    assert folded is not None
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.exact.modules())
    torch.testing.assert_close(folded.exact(example), body(example), atol=1e-4, rtol=1e-4)


def test_the_modules_stay_as_they_are(vote: Vote) -> None:
    before = [value.clone() for part in vote[:2] for value in part.state_dict().values()]
    modes = [m.training for part in vote[:2] for m in part.modules()]
    made(convolve_vote, vote, torch.bfloat16).votes(*vote[2:])
    after = [value for part in vote[:2] for value in part.state_dict().values()]
    assert all(map(torch.equal, before, after))
    assert modes == [m.training for part in vote[:2] for m in part.modules()]


def test_what_does_not_fit_has_no_form(vote: Vote) -> None:
    purifier = vote[1]
    assert convolve_vote(lambda x: x, purifier) is None
    assert convolve_vote(MLP((3, 16, 16), mean=(0.5,) * 3, std=(0.5,) * 3).eval(), purifier) is None
    assert convolve_vote(vote[0], Purifier((3, 16, 16), 10)) is None


@torch.no_grad()
def test_a_poll_of_many_candidates_comes_to_the_door(vote: Vote) -> None:
    classifier, purifier, latents, codes = vote
    assert voting(classifier, purifier, latents, codes) is not None
    assert torch.equal(poll(*vote, "never", 1e-4).counts, expected(vote))
    adapted = Adapted(classifier)
    assert torch.equal(poll(adapted, purifier, latents, codes, "never", 1e-4).counts, expected(vote))
