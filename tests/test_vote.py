import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carso.errors import ModelError
from carso.vote import (
    AGGREGATES,
    Tally,
    count,
    exponential,
    log_evidence,
    mean_logit,
    mean_probability,
    mode,
    peel,
    settled,
    shares,
    votes_needed,
)


def test_counts_are_those_of_bincount() -> None:
    logits = torch.randn(7, 50, 5)
    expected = torch.stack([torch.bincount(row, minlength=5) for row in logits.argmax(2)])
    assert torch.equal(count(logits), expected)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=6))
def test_the_mode_is_the_first_of_the_largest(counts: list[int]) -> None:
    assert mode(torch.tensor([counts])).item() == counts.index(max(counts))


def test_shares_sum_to_one() -> None:
    tally = Tally(torch.tensor([[3, 1], [10, 30]]), torch.tensor([4, 40]))
    torch.testing.assert_close(tally.shares, torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
    assert tally.winners.tolist() == [0, 1]


LOGITS = torch.randn(6, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_shares_are_counts_over_candidates() -> None:
    torch.testing.assert_close(shares(LOGITS), Tally(count(LOGITS), torch.full((6,), 5)).shares.double())
    assert not shares(LOGITS.clone().requires_grad_()).requires_grad


def test_means_are_means() -> None:
    over = [LOGITS[:, i] for i in range(5)]
    torch.testing.assert_close(mean_logit(LOGITS), sum(over) / 5)
    softmaxes = [z.exp() / z.exp().sum(1, keepdim=True) for z in over]
    torch.testing.assert_close(mean_probability(LOGITS), sum(softmaxes) / 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_peel_is_the_log_odds_of_the_softmax_of_summed_exponentials(dtype: torch.dtype) -> None:
    """log(p_k / (1 - p_k)) = s_k - log of the sum over j != k of exp(s_j), s_k being the sum over i of exp(l_ik)."""
    sums = [[sum(math.exp(z[k]) for z in image) for k in range(4)] for image in LOGITS.tolist()]
    odds = [[s[k] - math.log(sum(math.exp(s[j]) for j in range(4) if j != k)) for k in range(4)] for s in sums]
    expected = torch.tensor(odds, dtype=dtype)
    torch.testing.assert_close(peel(LOGITS.to(dtype)), expected, rtol=1e-9 if dtype == torch.float64 else 0.02, atol=0)


def ahead(lead: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Eight alike candidates of one image, one of whose ten logits is ahead of nine zeros."""
    logits = torch.zeros(1, 8, 10, dtype=dtype)
    logits[:, :, 3] = lead
    return logits.requires_grad_()


def test_peel_masks_gradients_from_the_lead_that_its_arithmetic_gives() -> None:
    """p_3 = 1 / (1 + 9 exp(-8 (exp(lead) - 1))) is 1 in float32 once the second term is below 2^-24."""
    lead = math.log(1 + math.log(9 * 2**24) / 8)
    assert lead == pytest.approx(1.21, abs=0.01)
    for over, masked in ((lead - 0.1, False), (lead + 0.01, True)):
        logits = ahead(over)
        scores = peel(logits)
        assert scores.argmax(1).item() == 3
        assert scores[0, 3].isinf() == masked
        (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(scores, torch.tensor([3])), logits)
        assert slope.isnan().all() == masked
        assert slope.isfinite().all() != masked
    logits = ahead(lead + 0.01, torch.float64)
    (slope,) = torch.autograd.grad(peel(logits)[0, 3], logits)
    torch.testing.assert_close(slope[0, :, 3], logits[0, :, 3].exp(), rtol=1e-6, atol=0)


def test_peel_of_huge_logits_is_no_nan() -> None:
    assert peel(torch.tensor([[[900.0, 0.0, -900.0]] * 3])).tolist() == [[torch.inf, -torch.inf, -torch.inf]]


@pytest.mark.parametrize("aggregation", sorted(AGGREGATES))
def test_no_aggregation_takes_nan(aggregation: str) -> None:
    with pytest.raises(ModelError, match="candidates have NaN"):
        AGGREGATES[aggregation](torch.full((1, 2, 3), torch.nan))


def test_the_smooth_aggregations_with_one_sample() -> None:
    logits = torch.randn(4, 1, 3)
    torch.testing.assert_close(mean_logit(logits), logits[:, 0])
    torch.testing.assert_close(mean_probability(logits), logits[:, 0].softmax(1))
    torch.testing.assert_close(exponential(logits), logits[:, 0].exp().softmax(1))


def test_the_exponential_survives_huge_logits() -> None:
    logits = torch.tensor([[[900.0, 0.0, -900.0], [100.0, 99.0, 0.0]]])
    assert exponential(logits).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize(("leader", "rival"), [(5, 3), (20, 0), (30, 12), (7, 7), (0, 4)])
def test_evidence_is_the_integral_it_claims_to_be(leader: int, rival: int) -> None:
    p = torch.linspace(0.5, 1, 100_001, dtype=torch.float64)
    integral = 2 * torch.trapezoid((2 * p) ** leader * (2 * (1 - p)) ** rival, p)
    torch.testing.assert_close(log_evidence(60)[leader + rival, leader].exp(), integral, rtol=1e-6, atol=0)


def test_a_unanimous_vote_of_ten_classes_needs_twenty_samples() -> None:
    needed = votes_needed(1500, 9 / 1e-4)
    assert (needed[:20] > torch.arange(20)).all()
    assert needed[20] == 20


def test_the_confident_stop_keeps_its_word_on_a_fair_coin() -> None:
    error, runs = 0.05, 4000
    votes = torch.rand(runs, 400, generator=torch.Generator().manual_seed(0)) < 0.5
    heads = votes.cumsum(1)
    totals = torch.arange(1, 401)
    wrong = torch.zeros(runs, dtype=torch.bool)
    for drawn in totals.tolist():
        counts = torch.stack([heads[:, drawn - 1], drawn - heads[:, drawn - 1]], dim=1)
        wrong |= settled(counts, drawn, 1000, "confident", error) & (counts.argmax(1) == 0)
    assert 0 < wrong.float().mean() <= error


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_an_exact_stop_never_changes_the_answer(samples: int, classes: int, seed: int) -> None:
    votes = torch.randint(classes, (20, samples), generator=torch.Generator().manual_seed(seed))
    final = torch.stack([torch.bincount(row, minlength=classes) for row in votes])
    for drawn in range(1, samples + 1):
        counts = torch.stack([torch.bincount(row, minlength=classes) for row in votes[:, :drawn]])
        done = settled(counts, drawn, samples, "exact")
        assert torch.equal(mode(counts)[done], mode(final)[done])


def test_everything_is_settled_once_all_have_voted() -> None:
    assert settled(torch.tensor([[5, 5]]), 10, 10, "never").all()
    assert not settled(torch.tensor([[9, 0]]), 9, 10, "never").any()


def test_the_table_of_the_confident_stop_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = votes_needed.__wrapped__(700, 90.0)
    monkeypatch.setattr("carso.vote.TOTALS", 7)
    assert torch.equal(votes_needed.__wrapped__(700, 90.0), whole)
    assert len(whole) == 701


def test_peel_and_exponential_elect_the_same_up_to_where_peel_cuts() -> None:
    surest = torch.tensor([79.0, 0.0, 90.0]).expand(1, 4, 3)
    assert peel(surest - 13).argmax() == exponential(surest - 13).argmax() == exponential(surest).argmax() == 2
    assert peel(surest).argmax() == 0
