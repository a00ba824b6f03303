"""Contested votes, and what the modules themselves make of them: for the tests of every form of a vote."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from carso.purifier import Purifier
from carso.recall import classify, recall
from carso.types import Codes, Counts, Latents
from carso.vote import count

Vote = tuple[nn.Module, Purifier, Latents, Codes]


@torch.no_grad()
def contested(classifier: Any, purifier: Purifier, latents: Latents, codes: Codes) -> Vote:
    """The vote with N's logits around zero and far apart, and the latents that settle it for everyone's float32."""
    logits = classify(classifier, recall(purifier, latents, codes))
    scale = 3 / logits.std((0, 1))
    classifier.logits.weight.mul_(scale.unsqueeze(1))
    classifier.logits.bias.copy_((classifier.logits.bias - logits.mean((0, 1))) * scale)
    first, second = classify(classifier, recall(purifier, latents, codes)).topk(2).values.unbind(2)
    return classifier, purifier, latents[(first - second > 1e-2).all(0)], codes


@torch.no_grad()
def expected(vote: Vote) -> Counts:
    """The votes (B, classes) by the modules themselves."""
    classifier, purifier, latents, codes = vote
    return count(classify(classifier, recall(purifier, latents, codes)))
