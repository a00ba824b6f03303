"""Contested votes, and what the modules themselves make of them: for the tests of every form of a vote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from tests.test_correction import IMAGES, defence
from torch import nn

from carso import CARSO
from carso.fast.votes import FoldedVote
from carso.nn import MLP, ResNet
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.recall import classify, recall
from carso.types import Codes, Counts, Latents
from carso.vote import count

Vote = tuple[nn.Module, Purifier, Latents, Codes]
VIEWPOINTS = [(0, False), (2, False), (0, True), (1, True)]
"""How far and whether turned over a correction sees the image besides."""
Build: TypeAlias = Callable[..., FoldedVote | None]


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


def made(build: Build, vote: Vote, dtype: torch.dtype) -> FoldedVote:
    """The form of the vote."""
    found = build(vote[0], vote[1], dtype)
    assert found is not None
    return found


def folded() -> Vote:
    torch.manual_seed(0)
    classifier, purifier = MLP((1, 12, 12), (90, 60)).eval(), Purifier((1, 12, 12), neurons=60, latent=9).eval()
    for layer in (*classifier.modules(), *purifier.modules()):
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.uniform_(-0.5, 0.5)
            layer.running_var.uniform_(0.5, 2)
    latents, codes = 4 * torch.randn(300, 9), torch.rand(20, purifier.code)
    with torch.no_grad():  # logits around zero, so that the vote is contested
        classifier.logits.bias -= classify(classifier, recall(purifier, latents, codes)).mean((0, 1))
        first, second = classify(classifier, recall(purifier, latents, codes)).topk(2).values.unbind(2)
    settled = (first - second > 1e-4).all(0)  # for everyone's float32, in whatever order it is summed
    return classifier, purifier, latents[settled], codes


def convolved() -> Vote:
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


def trained(shift: int = 1, flip: bool = True) -> CARSO:
    some = defence(shift, flip)
    nn.init.normal_(some.purifier.decoder[0].last.weight, std=0.1)
    return some


def corrected(shift: int, flip: bool) -> Vote:
    """Small and contested, from several viewpoints."""
    some, latents = trained(shift, flip), 3 * torch.randn(100, 4)
    classifier, purifier = some.classifier, some.purifier
    assert isinstance(classifier, ResNet)
    with torch.no_grad():
        codes = some.codes(IMAGES)
    whole = contested(classifier, purifier, latents, codes)
    assert len(whole[2]) > 20
    return whole
