import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carso.vote import Tally, count, exponential, log_evidence, mean_probability, mode, settled, votes_needed


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


def test_the_smooth_rules_with_one_sample() -> None:
    logits = torch.randn(4, 1, 3)
    torch.testing.assert_close(mean_probability(logits), logits[:, 0].softmax(1))
    torch.testing.assert_close(exponential(logits), logits[:, 0].exp().softmax(1))


def test_the_exponential_rule_survives_huge_logits() -> None:
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
