from __future__ import annotations

import torch
from tests.rivals.conftest import CPU, SHAPE, accuracy, bars, dataset, schedule
from torch import nn

from carso.rivals import Autoencoder, Denoised, DenoisingStage
from carso.training.loop import Stage, beginning, fit
from carso.training.recipe import AttackSpec

ATTACKS = (AttackSpec(attack="noise", eps=0.4), AttackSpec(attack="fgsm", eps=0.2))


def test_it_learns_to_take_the_noise_away(classifier: nn.Module) -> None:
    with beginning(0, "autoencoder"):
        rival = Denoised(classifier, Autoencoder(SHAPE, (64,), 16))
    stage = DenoisingStage(rival, schedule(40, 0.03), dataset(), dataset(64, 3), CPU, ATTACKS)
    assert isinstance(stage, Stage)
    fit(stage, 0, "f")
    images, _ = bars(128, 4)
    noisy = (images + 0.4 * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
    assert (rival.purify(noisy) - images).square().mean() < (noisy - images).square().mean() / 3
    assert accuracy(rival) > 0.95


def test_the_classifier_sees_the_purified_image_and_gradients_pass(classifier: nn.Module) -> None:
    rival = Denoised(classifier, Autoencoder(SHAPE, (16,), 4))
    images = bars(4, 0)[0].requires_grad_()
    logits = rival(images)
    assert torch.equal(logits, classifier(rival.eval().autoencoder(images)))
    assert torch.autograd.grad(logits.sum(), images)[0].abs().sum() > 0
