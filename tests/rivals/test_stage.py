"""Whoever has a batch's rows, a rival learns what it learns from the batch at once."""

from collections.abc import Callable

import pytest
import torch
from tests.networks import without_batch_norm
from tests.rivals.conftest import CLASSES, CPU, SHAPE, dataset
from torch import Tensor, nn

from carso.data import Dataset
from carso.nn import MLP
from carso.processes.dealing import Deal, dealing
from carso.rivals.defense_gan import WGAN, DefenseGAN, EncoderStage, Generator, WGANStage, critic, encoder
from carso.rivals.diffusion import DDPM, DiffusionStage
from carso.rivals.puvae import ConditionalVAE, PuVAE, PuVAEStage
from carso.rivals.smoothing import NoisyStage, Smoothed
from carso.rivals.stage import GenerativeStage, noise
from carso.rivals.unet import UNet
from carso.training.loop import Stage, beginning, fit
from carso.training.recipe import ClassifierTraining

BATCH = 8


def schedule(portions: int = 1) -> ClassifierTraining:
    """Under SGD: RAdam makes steps of full length of gradients that are zero but for rounding."""
    return ClassifierTraining(epochs=1, batch=BATCH, batches=2, rate=1e-3, optimiser="sgd", accumulate=portions)


def smoothing(portions: int) -> Stage:
    return NoisyStage(Smoothed(MLP(SHAPE, (8,), CLASSES, dropout=0.0)), schedule(portions), *sets())


def puvae(portions: int) -> Stage:
    rival = PuVAE(MLP(SHAPE, (8,), CLASSES), ConditionalVAE(SHAPE, CLASSES, latent=4, hidden=(16,)))
    return PuVAEStage(rival, schedule(portions), *sets())


def diffusion(portions: int) -> Stage:
    return DiffusionStage(DDPM(UNet(1, 8, levels=1), 100), schedule(portions), *sets())


def wgan(portions: int) -> Stage:
    return WGANStage(WGAN(Generator(SHAPE, 4, hidden=(16,)), critic(SHAPE, (16,))), schedule(portions), *sets())


def of_the_attacker(portions: int) -> Stage:
    rival = DefenseGAN(MLP(SHAPE, (8,), CLASSES), Generator(SHAPE, 4, hidden=(16,)), encoder(SHAPE, 4, (16,)))
    return EncoderStage(rival, schedule(portions), *sets())


def sets() -> tuple[Dataset, Dataset, torch.device]:
    return dataset(2 * BATCH), dataset(BATCH, 3), CPU


@pytest.mark.parametrize("make", [smoothing, puvae, diffusion, wgan, of_the_attacker])
def test_a_batch_in_portions_teaches_what_it_teaches_at_once(make: Callable[[int], Stage]) -> None:
    learnt = []
    for portions in (1, 2):
        with beginning(0, "start"):
            stage = without_batch_norm(make(portions))
        fit(stage, 3, "f")
        learnt.append(stage.module.state_dict())
    for name, value in learnt[0].items():
        torch.testing.assert_close(learnt[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


class Halves(GenerativeStage):
    def objective(self, images: Tensor, labels: Tensor | None) -> Tensor:
        found: Tensor = self.module(images)
        return found


def test_layers_that_look_at_a_whole_batch_do_so_whoever_has_its_rows() -> None:
    stage = Halves("halves", nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 1)), schedule(), *sets())
    images, indices = dataset(BATCH).images, torch.arange(BATCH)
    with beginning(0, "whole"):
        whole = stage.loss(images, indices, 0)
    for first in range(2):
        with beginning(0, "whole"), dealing(Deal(BATCH, first, 2)) as deal:
            assert torch.equal(stage.loss(deal.rows(images), deal.rows(indices), 0), deal.rows(whole))


def test_noise_is_drawn_for_the_whole_batch() -> None:
    whole = torch.zeros(5, 2, 3)
    with beginning(0, "noise"):
        expected = torch.randn_like(whole)
    for first in range(2):
        with beginning(0, "noise"), dealing(Deal(5, first, 2)) as deal:
            assert torch.equal(noise(deal.rows(whole)), deal.rows(expected))
