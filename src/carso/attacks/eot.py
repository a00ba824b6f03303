"""A random model as one differentiable function: candidates' logits, aggregated.

    mean log-probability    f_k = 1/K sum_i log p_ik       its cross-entropy is the mean of the candidates'
    log mean probability    f_k = log 1/K sum_i p_ik
    exponential             f_k = log sum_i exp(l_ik)      the later CARSO paper's scores, on a logarithmic scale

    l_ik, p_ik    logit and probability of class k for candidate i = 1..K

A candidate is one answer of the model. Every evaluation draws new ones, unless the randomness is fixed: then the
attacker knows the latents, and what robustness is lost was owed to chance.

Sources: A. Athalye, N. Carlini and D. Wagner, "Obfuscated gradients give a false sense of security", ICML 2018; thesis,
section 3.2.4; the later CARSO paper's rule as in `carso.vote`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from carso.fast import batch_of
from carso.nn.querying import query
from carso.types import CandidateLogits, Classifier, Images, Logits

Aggregate: TypeAlias = Callable[[Tensor], Tensor]
"""Candidates' logits (B, K, classes) to logits (B, classes)."""

Candidates: TypeAlias = Callable[[Tensor, int], Tensor]
"""(images, K) -> the logits of K candidates (B, K, classes), differentiable in the images."""


def mean_log_probability(logits: CandidateLogits) -> Logits:
    """The candidates' log-probabilities, averaged."""
    return logits.log_softmax(2).mean(1)


def log_mean_probability(logits: CandidateLogits) -> Logits:
    """The logarithm of the candidates' average probability."""
    return logits.log_softmax(2).logsumexp(1) - math.log(logits.shape[1])


def exponential(logits: CandidateLogits) -> Logits:
    """The logarithm of the sum of the candidates' exponentiated logits."""
    return logits.logsumexp(1)


@dataclass(frozen=True)
class Expectation:
    """A random model, averaged: what an attack with expectation over transformation differentiates.

    Args:
        candidates: (images, K) -> logits (B, K, classes), with fresh randomness each call.
        samples: K.
        aggregate: how the candidates' logits become one row.
    """

    candidates: Candidates
    samples: int = 1
    aggregate: Aggregate = mean_log_probability

    @property
    def batch(self) -> int | None:
        """That of its candidates (see `batch_of` of `carso.fast`)."""
        return batch_of(self.candidates)

    @property
    def varies(self) -> bool | None:
        """Whether calls of its candidates differ, where they know it."""
        varies: bool | None = getattr(self.candidates, "varies", None)
        return varies

    def __call__(self, images: Images) -> Logits:
        """Logits (B, classes) of images (B, C, H, W), differentiable in them."""
        return self.aggregate(self.candidates(images, self.samples))


def calls(model: Classifier) -> Candidates:
    """The answers of K calls of a random model as its candidates."""

    def candidates(images: Tensor, samples: int) -> Tensor:
        return torch.stack([query(model, images) for _ in range(samples)], dim=1)

    return candidates
