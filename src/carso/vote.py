"""The vote: from the classes of K candidates to one answer.

Aggregations of candidates i with logits l_i (K, classes):

    mode               v_k = #{i : argmax l_i = k}              thesis, section 3.2.4; the published code's count
    mean-logit         v_k = mean_i l_ik                        the published code
    mean-probability   v_k = mean_i softmax(l_i)_k
    exponential        v_k = p_k = softmax_k(sum_i exp(l_ik))   the later CARSO paper
    peel               v_k = log(p_k / (1 - p_k))               the published code

The mode can stop before K samples in two ways.

    exact      The leader's margin exceeds the samples left, so the answer equals that of all K.
    confident  For the leader A and each rival B, the evidence that A is likelier than B is the martingale
                   M(a, b) = 2 * integral over p in (1/2, 1) of (2p)^a (2(1-p))^b dp
               of their counts a and b. Under "A is not likelier than B", P(M ever reaches 1/alpha) <= alpha (Ville).
               Stopping once M >= (classes - 1) / error against every rival keeps the probability of a stop at another
               class than infinitely many samples would elect below `error`, however often one looks; a vote that runs
               to K answers as without the rule, and the bound is not of it.

Sources: E. Ballarin, A. Ansuini and L. Bortolussi, CARSO, 2023, and its published code; Ville, Étude critique de la
notion de collectif, 1939; Waudby-Smith, Stark and Ramdas, RiLACS: risk-limiting audits via confidence sequences, 2021
(the same test decides when enough paper ballots have been counted).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carso.types import CandidateLogits, Counts, Labels, Logits, check_logits

Aggregation: TypeAlias = Literal["mode", "mean-logit", "mean-probability", "exponential", "peel"]
Stop: TypeAlias = Literal["never", "exact", "confident"]

MOST = 10_000
"""The largest K that a file may ask for; the time that the table of the confident stop takes grows with its square."""

TOTALS = 512
"""Rows of that table at a time, which bounds its memory."""

LARGEST = 690.0, 78.0
"""Where logits are cut before they are exponentiated, in float64 and float32: sums of 10,000 stay finite."""


@dataclass(frozen=True)
class Tally:
    """Votes per class (B, classes) and samples drawn per image (B,)."""

    counts: Counts
    samples: Labels

    @property
    def winners(self) -> Labels:
        """The most voted class (B,) of each image; a tie goes to the lowest class."""
        return mode(self.counts)

    @property
    def shares(self) -> Logits:
        """Fraction of the votes (B, classes) that each class got, in [0, 1]."""
        return self.counts.float() / self.samples.unsqueeze(1)


def mode(counts: Counts) -> Labels:
    """The most voted class (B,) of each row of counts (B, classes); a tie goes to the lowest class."""
    classes = counts.shape[1]
    return (counts * classes - torch.arange(classes, device=counts.device)).argmax(1)


def count(logits: CandidateLogits) -> Counts:
    """Votes (B, classes) of candidates with logits (B, K, classes)."""
    check_logits(logits)
    classes = logits.shape[2]
    return torch.zeros(len(logits), classes, dtype=torch.long, device=logits.device).scatter_add_(
        1, logits.argmax(2), torch.ones((), dtype=torch.long, device=logits.device).expand(logits.shape[:2])
    )


def shares(logits: CandidateLogits) -> Logits:
    """Fraction of the candidates' votes (B, classes) that each class gets, from their logits (B, K, classes)."""
    return count(logits) / logits.new_tensor(logits.shape[1])


def mean_logit(logits: CandidateLogits) -> Logits:
    """Logits (B, classes), averaged over the candidates' (B, K, classes)."""
    check_logits(logits)
    return logits.mean(1)


def mean_probability(logits: CandidateLogits) -> Logits:
    """Class probabilities (B, classes), averaged over the candidates' logits (B, K, classes)."""
    check_logits(logits)
    return logits.softmax(2).mean(1)


def exponential(logits: CandidateLogits) -> Logits:
    """softmax over k of sum_i exp(l_ik): probabilities (B, classes) that weigh confident candidates most.

    Computed in float64 with logits cut at 690, so that the double exponential stays finite.
    """
    check_logits(logits)
    return logits.double().clamp(max=LARGEST[0]).exp().sum(1).softmax(1).to(logits.dtype)


def peel(logits: CandidateLogits) -> Logits:
    """log(p / (1 - p)) (B, classes) of p = softmax over k of sum_i exp(l_ik), in the logits' own precision.

    It masks gradients. In float32 p is rounded to 1 once the best class's sum leads by ln((classes - 1) 2^24), 18.8 of
    ten classes: of K alike candidates whose other logits are 0, once their logit leads by ln(1 + 18.8 / K), 1.2 of 8.
    The score is then infinite and its gradient infinity times 0, which is NaN, whose sign is 0: whoever follows it
    stands still. `exponential` gives the same classes, to rounding, of logits that are not cut, and the candidates'
    logits before either what to attack. `peel` cuts float32 logits at 78: of candidates surer of two classes than that,
    the lower one wins, whichever logit is larger.
    """
    check_logits(logits)
    most = LARGEST[0] if logits.dtype == torch.float64 else LARGEST[1]
    p = logits.clamp(max=most).exp().sum(1).softmax(1)
    return torch.log(p / (1 - p))


AGGREGATES: dict[Aggregation, Callable[[Tensor], Tensor]] = {
    "mode": shares,
    "mean-logit": mean_logit,
    "mean-probability": mean_probability,
    "exponential": exponential,
    "peel": peel,
}
"""Candidates' logits (B, K, classes) to scores (B, classes); all but the mode's are differentiable."""


def settled(counts: Counts, drawn: int, samples: int, stop: Stop, error: float = 1e-4) -> Bool[Tensor, " batch"]:
    """Which images (B,) need no further vote.

    Args:
        counts: votes so far (B, classes).
        drawn: how many they are per image.
        samples: K, how many there can be.
        stop: the rule, as above.
        error: bound of the confident rule, per image.
    """
    if drawn >= samples or counts.shape[1] < 2:
        return torch.ones(len(counts), dtype=torch.bool, device=counts.device)
    if stop == "never":
        return torch.zeros(len(counts), dtype=torch.bool, device=counts.device)
    leader, runner_up = counts.topk(2, dim=1).values.unbind(1)
    if stop == "exact":
        return leader - runner_up > samples - drawn
    with torch.device("cpu"):
        needed = votes_needed(samples, (counts.shape[1] - 1) / error).to(counts.device)
    return leader >= needed[leader + runner_up]


@lru_cache(maxsize=16)
def votes_needed(most: int, evidence: float) -> Int[Tensor, " total"]:
    """For a leader and a rival with n = 0..most votes between them, the least a with M(a, n - a) >= evidence.

    M falls as b grows at fixed a, so the runner-up is the rival that decides. Where no a is enough, the entry is n + 1.
    """
    return torch.cat([_least(most, some, evidence) for some in torch.arange(most + 1).split(TOTALS)])


def _least(most: int, totals: Tensor, evidence: float) -> Tensor:
    enough = log_evidence(most, totals) >= math.log(evidence)
    return torch.where(enough.any(1), enough.int().argmax(1), totals + 1)


def log_evidence(most: int, totals: Tensor | None = None) -> Float[Tensor, "total leader"]:
    """log M(a, n - a) for every n (all up to `most`, or `totals`) and a up to `most`, -inf where a > n.

    M(a, b) = B(a + 1, b + 1) * sum over j <= a of C(n + 1, j), by the binomial form of the incomplete beta function.
    """
    log_factorial = torch.lgamma(torch.arange(1, most + 3, dtype=torch.float64))
    votes = torch.arange(most + 1)
    totals = votes if totals is None else totals
    rival = totals.unsqueeze(1) - votes
    log_beta = log_factorial[votes] + log_factorial[rival.clamp(min=0)] - log_factorial[totals + 1].unsqueeze(1)
    log_choose = log_factorial[totals + 1].unsqueeze(1) - log_factorial[votes] - log_factorial[(rival + 1).clamp(min=0)]
    return (log_beta + log_choose.logcumsumexp(1)).masked_fill(rival < 0, -torch.inf)
