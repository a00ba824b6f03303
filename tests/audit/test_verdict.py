"""A sequential screen errs as its random walk does, and spends few verdicts where they agree."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import comb

import pytest
import torch
from torch import Tensor

from carso import progress
from carso.audit.target import Target
from carso.audit.verdict import LEADS, Judge


class Coin:
    """Answers class 1 with probability `right`, independently, and counts its verdicts."""

    def __init__(self, right: float) -> None:
        self.right, self.verdicts = right, 0
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, images: Tensor) -> Tensor:
        self.verdicts += len(images)
        return (torch.rand(len(images), generator=self.generator) < self.right).long()


def judge(answer: Coin, *, random: bool = True, votes: int = 10) -> Judge:
    target = Target(
        name="coin",
        answer=answer,
        scores=lambda images: images,
        candidates=None,
        known=None,
        exact=None,
        random=random,
        random_surrogate=False,
        repeatable=False,
        probabilities=False,
        classes=2,
        device=torch.device("cpu"),
        identity="coin",
    )
    return Judge(target, votes)


def called_broken(right: float, votes: int) -> float:
    """The probability that a screen calls an image broken, by recursion over its verdicts."""

    @cache
    def left(wrong: int, good: int) -> float:
        if good == 1 and wrong == 0:
            return 0.0
        if wrong + good == 2 * votes or good - wrong >= LEADS[0] or wrong - good >= LEADS[1]:
            return float(wrong >= good)
        return right * left(wrong, good + 1) + (1 - right) * left(wrong + 1, good)

    return left(0, 0)


@pytest.mark.parametrize("right", [0.2, 0.5, 0.6, 0.9])
def test_a_screen_errs_as_often_as_its_random_walk(right: float) -> None:
    images, labels = torch.zeros(20_000, 1, 1, 1), torch.ones(20_000, dtype=torch.long)
    screen = judge(Coin(right))
    share = screen.broken(screen.screened(images, labels)).double().mean().item()
    assert share == pytest.approx(called_broken(right, 10), abs=0.015)


@pytest.mark.parametrize("right", [0.2, 0.5, 0.7])
def test_a_breach_is_confirmed_by_verdicts_that_the_screen_has_not_seen(right: float) -> None:
    images, labels = torch.zeros(50_000, 1, 1, 1), torch.ones(50_000, dtype=torch.long)
    both = judge(Coin(right))
    half = sum(comb(10, n) * right**n * (1 - right) ** (10 - n) for n in range(6))
    share = both.broken(both.confirmed(images, labels)).double().mean().item()
    assert share == pytest.approx(called_broken(right, 10) * half, abs=0.01 if right < 0.7 else 0.0005)


def test_a_deterministic_target_is_not_asked_to_confirm() -> None:
    coin = Coin(0.0)
    assert (judge(coin, random=False).confirmed(torch.zeros(7, 1, 1, 1), torch.ones(7, dtype=torch.long)) == 0).all()
    assert coin.verdicts == 7


@pytest.mark.parametrize(
    ("given", "named", "outvoted"),
    [
        ([2, 2, 2, 1], 2, False),
        ([2, 2, 1, 1], 2, False),
        ([2, 1, 1, 1], 2, True),
        ([2, 2, 0, 1], 2, False),
        ([2, -1, 1, 1], 2, False),
        ([-1, -1, -1, 1], 2, False),
        ([-1, 1, 1, 1], 2, True),
    ],
)
def test_a_class_is_outvoted_by_one_that_more_verdicts_name(given: list[int], named: int, outvoted: bool) -> None:
    verdicts = iter(given)
    asked = judge(Coin(0.0), votes=len(given))
    target = replace(asked.target, answer=lambda images: torch.full((len(images),), next(verdicts)), classes=3)
    found = Judge(target, len(given)).outvoted(torch.zeros(5, 1, 1, 1), torch.full((5,), named))
    assert found.tolist() == 5 * [outvoted]


@pytest.mark.parametrize(("right", "verdicts", "expected"), [(1.0, 1, 10), (0.0, LEADS[1], 0)])
def test_agreement_ends_the_vote(right: float, verdicts: int, expected: int) -> None:
    coin = Coin(right)
    found = judge(coin).screened(torch.zeros(7, 1, 1, 1), torch.ones(7, dtype=torch.long))
    assert coin.verdicts == 7 * verdicts
    assert (found == expected).all()


def test_luck_of_a_hundred_attacks_breaks_few_images_that_are_mostly_answered_rightly() -> None:
    assert called_broken(0.8, 10) < 0.002
    assert called_broken(0.3, 10) > 0.6


def test_a_deterministic_target_is_asked_once() -> None:
    coin = Coin(0.0)
    found = judge(coin, random=False).screened(torch.zeros(7, 1, 1, 1), torch.ones(7, dtype=torch.long))
    assert coin.verdicts == 7
    assert (found == 0).all()


def test_a_final_verdict_takes_every_vote() -> None:
    coin = Coin(0.5)
    found = judge(coin).right(torch.zeros(1000, 1, 1, 1), torch.ones(1000, dtype=torch.long))
    assert coin.verdicts == 10_000
    assert found.double().mean().item() == pytest.approx(5, abs=0.3)


@pytest.mark.usefixtures("fresh_progress")
def test_all_verdicts_are_steps_of_one_bar() -> None:
    met: list[tuple[str, float | None]] = []

    class Watching(Coin):
        def __call__(self, images: Tensor) -> Tensor:
            met.extend((bar.description, bar.fraction) for bar in progress._display.bars)
            return super().__call__(images)

    judge(Watching(0.5), votes=4).right(torch.zeros(3, 1, 2, 2), torch.ones(3, dtype=torch.long))
    assert met == [("verdicts", 0), ("verdicts", 0.25), ("verdicts", 0.5), ("verdicts", 0.75)]
    met.clear()
    judge(Watching(0.5), random=False).right(torch.zeros(3, 1, 2, 2), torch.ones(3, dtype=torch.long))
    assert met == []
