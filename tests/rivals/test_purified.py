from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.rivals.conftest import CLASSES, SHAPE
from torch import nn

from carso.errors import DataError
from carso.nn import MLP
from carso.rivals.defense_gan import DefenseGAN, Generator, encoder
from carso.rivals.denoising import Autoencoder, Denoised
from carso.rivals.diffusion import DDPM, DiffusionPurified
from carso.rivals.purified import Purified
from carso.rivals.puvae import ConditionalVAE, PuVAE
from carso.rivals.unet import UNet

MAKERS: dict[str, Callable[[nn.Module], Purified]] = {
    "denoising": lambda n: Denoised(n, Autoencoder(SHAPE, (12,), 6)),
    "puvae": lambda n: PuVAE(n, ConditionalVAE(SHAPE, CLASSES, 3, (12,))),
    "defense-gan": lambda n: DefenseGAN(n, Generator(SHAPE, 3, (12,)), encoder(SHAPE, 3, (12,)), steps=3, restarts=2),
    "diffusion": lambda n: DiffusionPurified(n, DDPM(UNet(1, 8, 1), 20), t=0.2, steps=2),
}


def made(kind: str) -> Any:
    torch.manual_seed(0)
    return MAKERS[kind](MLP(SHAPE, (8,), CLASSES, dropout=0.0)).eval()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("kind", MAKERS)
def test_images_and_weights_may_be_of_any_precision(kind: str) -> None:
    images = torch.rand(4, *SHAPE)
    expected = made(kind)(images, generator=seeded())
    for rival, seen in ((made(kind).double(), images), (made(kind), images.double()), (made(kind).bfloat16(), images)):
        purified = rival.purify(seen, generator=seeded())
        assert (purified.dtype, purified.shape) == (seen.dtype, seen.shape)
        close = 0.2 if rival.classifier.linear1.weight.dtype == torch.bfloat16 else 1e-4
        torch.testing.assert_close(rival(seen, generator=seeded()).double(), expected.double(), atol=close, rtol=close)
        if hasattr(rival, "surrogate"):
            leaf = seen.clone().requires_grad_()
            rival.surrogate(leaf).sum().backward()
            assert leaf.grad is not None
            assert leaf.grad.dtype == seen.dtype


@pytest.mark.parametrize("kind", ["denoising", "puvae", "defense-gan"])
@pytest.mark.parametrize("shape", [(1, 4, 16), (3, 8, 8)])
def test_images_of_another_shape_are_refused(kind: str, shape: tuple[int, ...]) -> None:
    rival = made(kind)
    for asked in [rival, *filter(None, [getattr(rival, "surrogate", None)])]:
        with pytest.raises(DataError, match=r"shape \(batch, 1, 8, 8\)"):
            asked(torch.rand(2, *shape))


def test_the_encoder_of_defense_gan_is_its_attackers() -> None:
    assert made("defense-gan").attackers == ("encoder",)
