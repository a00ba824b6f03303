import pytest
import torch
from tests.fast.ballots import Vote, contested, expected
from torch import nn

from carso.fast import voting
from carso.fast.convolved import convolve_vote
from carso.fast.network import network
from carso.fast.products import product_dtype
from carso.fast.votes import FoldedVote
from carso.nn import MLP, Adapted, ResNet
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.recall import poll


@pytest.fixture
def vote() -> Vote:
    torch.manual_seed(0)
    classifier = ResNet((3, 16, 16), width=4, blocks=(1, 1)).eval()
    purifier = ConvolutionalPurifier((3, 16, 16), [(10,)], latent=5, code=6).eval()
    for layer in (*classifier.modules(), *purifier.modules()):
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.3, 0.6)
    latents, codes = 20 * torch.randn(40, 5), torch.rand(9, 6)
    whole = contested(classifier, purifier, latents, codes)
    assert len(whole[2]) > 9
    return whole


def made(vote: Vote, dtype: torch.dtype) -> FoldedVote:
    found = convolve_vote(vote[0], vote[1], dtype)
    assert found is not None
    return found


@torch.no_grad()
@pytest.mark.parametrize("rows", [7, 32, 512])
def test_float32_votes_are_those_of_the_modules(vote: Vote, rows: int) -> None:
    form = made(vote, torch.float32)
    form.rows = rows
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
    assert 0 < rounded.doubt < torch.inf
    assert torch.equal(rounded.votes(*vote[2:]), expected(vote))
    exact, low = rounded.exact, rounded.low
    sums = rounded.sums(vote[2][:1], vote[3]).all()
    assert low is not None
    assert not torch.equal(exact(sums), low(sums))


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
    made(vote, torch.bfloat16).votes(*vote[2:])
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
