"""A rival as data: its kind and options, of which it is built, and the stages of its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import torch
from pydantic import Field
from torch import nn

from carso.data import Dataset
from carso.errors import RecipeError
from carso.rivals.augmentation import Augmented
from carso.rivals.defense_gan import WGAN, DefenseGAN, EncoderStage, Generator, WGANStage, critic, encoder
from carso.rivals.denoising import Autoencoder, Denoised, DenoisingStage
from carso.rivals.diffusion import DDPM, DiffusionPurified, DiffusionStage
from carso.rivals.parseval import ParsevalStage
from carso.rivals.puvae import ConditionalVAE, PuVAE, PuVAEStage
from carso.rivals.smoothing import NoisyStage, Smoothed
from carso.rivals.unet import UNet
from carso.rivals.winners import WinnersTakeAll
from carso.storage.schema import Schema
from carso.training.classifier import ClassifierStage
from carso.training.loop import Stage
from carso.training.recipe import ClassifierTraining

Size = Annotated[int, Field(ge=1, le=2**16)]
Shape: TypeAlias = tuple[Size, Size, Size]
Option: TypeAlias = Size | Annotated[float, Field(ge=0, le=2**16)] | Annotated[tuple[Size, ...], Field(max_length=64)]
Sets: TypeAlias = tuple[Dataset, Dataset]
"""The images that fit, and the held-out ones."""


class RivalSpec(Schema, extra="forbid"):
    """What a rival is.

    Attributes:
        kind: a name of `KINDS`.
        options: of that kind; what is not said is the class's default.
    """

    kind: str
    options: Mapping[str, Option] = {}


@dataclass(frozen=True)
class Kind:
    """How rivals of a kind are made.

    Attributes:
        build: N, the shape (C, H, W) of the images, how many classes there are and the options, to the rival.
        stages: rival, schedules, images and device to what is trained, in its order; none keeps N as it is.
        trains: whether N itself is what is trained, and therefore enters untrained.
    """

    build: Callable[..., nn.Module]
    stages: Callable[[Any, Sequence[ClassifierTraining], Sets, torch.device], Sequence[Stage]]
    trains: bool = False


def build(spec: RivalSpec, classifier: nn.Module, shape: Sequence[int], classes: int) -> nn.Module:
    """A rival, untrained.

    Args:
        spec: what it is.
        classifier: N; that of a kind that trains N should be untrained.
        shape: (C, H, W) of the images.
        classes: how many there are.

    Raises:
        RecipeError: if there is no such kind, or its options are others.
    """
    try:
        return _kind(spec).build(classifier, tuple(shape), classes, **spec.options)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"rival {spec.kind}: {error}") from error


def stages(
    spec: RivalSpec, rival: nn.Module, schedules: Sequence[ClassifierTraining], sets: Sets, device: torch.device
) -> Sequence[Stage]:
    """What is to be trained of a rival, in this order.

    Raises:
        RecipeError: if there are not as many schedules as stages.
    """
    try:
        return _kind(spec).stages(rival, schedules, sets, device)
    except ValueError as error:
        raise RecipeError(
            f"rival {spec.kind} has another number of trainings than {len(schedules)}: {error}"
        ) from error


def trains(spec: RivalSpec) -> bool:
    """Whether N itself is what is trained."""
    return _kind(spec).trains


def _kind(spec: RivalSpec) -> Kind:
    if spec.kind not in KINDS:
        raise RecipeError(f"no rival {spec.kind!r}; there are: {', '.join(KINDS)}")
    return KINDS[spec.kind]


def _plain(classifier: nn.Module, shape: Shape, classes: int) -> nn.Module:
    return classifier


def _winners(classifier: nn.Module, shape: Shape, classes: int, **options: Any) -> nn.Module:
    return WinnersTakeAll(classifier, **options)


def _smoothed(classifier: nn.Module, shape: Shape, classes: int, **options: Any) -> nn.Module:
    return Smoothed(classifier, **options)


def _augmented(classifier: nn.Module, shape: Shape, classes: int, **options: Any) -> nn.Module:
    return Augmented(classifier, **options)


def _denoised(classifier: nn.Module, shape: Shape, classes: int, **options: Any) -> nn.Module:
    return Denoised(classifier, Autoencoder(shape, **options))


def _puvae(classifier: nn.Module, shape: Shape, classes: int, **options: Any) -> nn.Module:
    return PuVAE(classifier, ConditionalVAE(shape, classes, **options))


def _defense_gan(
    classifier: nn.Module,
    shape: Shape,
    classes: int,
    latent: int = 64,
    hidden: Sequence[int] = (256, 512),
    **options: Any,
) -> nn.Module:
    generator, inverse = Generator(shape, latent, hidden), encoder(shape, latent, tuple(reversed(hidden)))
    return DefenseGAN(classifier, generator, inverse, **options)


def _diffusion(
    classifier: nn.Module,
    shape: Shape,
    classes: int,
    width: int = 32,
    levels: int = 2,
    horizon: int = 1000,
    **options: Any,
) -> nn.Module:
    return DiffusionPurified(classifier, DDPM(UNet(shape[0], width, levels), horizon), **options)


def _stage_of_classifier(
    rival: nn.Module, schedules: Sequence[ClassifierTraining], sets: Sets, device: torch.device
) -> list[Stage]:
    (schedule,) = schedules
    return [ClassifierStage("classifier", rival, schedule, *sets, device)]


def _stage_of_parseval(
    rival: nn.Module, schedules: Sequence[ClassifierTraining], sets: Sets, device: torch.device
) -> list[Stage]:
    (schedule,) = schedules
    return [ParsevalStage(rival, schedule, *sets, device)]


def _stage_of_smoothing(
    rival: Smoothed, schedules: Sequence[ClassifierTraining], sets: Sets, device: torch.device
) -> list[Stage]:
    (schedule,) = schedules
    return [NoisyStage(rival, schedule, *sets, device)]


def _no_stage(
    rival: nn.Module, schedules: Sequence[ClassifierTraining], sets: Sets, device: torch.device
) -> list[Stage]:
    () = schedules
    return []


def _stage_of_denoising(
    rival: Denoised, schedules: Sequence[ClassifierTraining], sets: Sets, device: torch.device
) -> list[Stage]:
    (schedule,) = schedules
    return [DenoisingStage(rival, schedule, *sets, device, schedule.attacks)]


def _stage_of_puvae(
    rival: PuVAE, schedules: Sequence[ClassifierTraining], sets: Sets, device: torch.device
) -> list[Stage]:
    (schedule,) = schedules
    return [PuVAEStage(rival, schedule, *sets, device)]


def _stages_of_defense_gan(
    rival: DefenseGAN, schedules: Sequence[ClassifierTraining], sets: Sets, device: torch.device
) -> list[Stage]:
    for_gan, for_encoder = schedules
    wgan = WGAN(rival.generator, critic(sets[0].shape))
    return [WGANStage(wgan, for_gan, *sets, device), EncoderStage(rival, for_encoder, *sets, device)]


def _stage_of_diffusion(
    rival: DiffusionPurified, schedules: Sequence[ClassifierTraining], sets: Sets, device: torch.device
) -> list[Stage]:
    (schedule,) = schedules
    return [DiffusionStage(rival.ddpm, schedule, *sets, device)]


KINDS: Mapping[str, Kind] = {
    "classifier": Kind(_plain, _stage_of_classifier, trains=True),
    "parseval": Kind(_plain, _stage_of_parseval, trains=True),
    "winners": Kind(_winners, _stage_of_classifier, trains=True),
    "smoothing": Kind(_smoothed, _stage_of_smoothing, trains=True),
    "augmentation": Kind(_augmented, _no_stage),
    "denoising": Kind(_denoised, _stage_of_denoising),
    "puvae": Kind(_puvae, _stage_of_puvae),
    "defense-gan": Kind(_defense_gan, _stages_of_defense_gan),
    "diffusion": Kind(_diffusion, _stage_of_diffusion),
}
"""Every rival by the name of its kind; "classifier" is a network alone, adversarially trained or not."""
