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
Whole = Annotated[int, Field(ge=0, le=2**16)]
Option: TypeAlias = (
    bool | Whole | Annotated[float, Field(ge=0, le=2**16)] | Annotated[tuple[Size, ...], Field(max_length=64)]
)
FORMS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "hidden": ((tuple,), "a list of sizes"),
    "flip": ((bool,), "true or false"),
    **dict.fromkeys(("gamma", "sigma", "t", "rate"), ((int, float), "a number")),
}
"""What an option must be, and the words for it; all others are whole numbers."""

Sets: TypeAlias = tuple[Dataset, Dataset]
"""The images that fit, and the held-out ones."""


MakeStage: TypeAlias = Callable[[Any, ClassifierTraining, Dataset, Dataset, torch.device], Stage]


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
        stages: each from rival, schedule, images that fit, held-out ones and device, in the order of training.
        options: their names.
        trains: whether N itself is what is trained, and therefore enters untrained.
        alone: whether it is a network alone, with nothing before or behind it.
    """

    build: Callable[..., nn.Module]
    stages: tuple[MakeStage, ...] = ()
    options: tuple[str, ...] = ()
    trains: bool = False
    alone: bool = False


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
    _check_options(spec)
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
    check_trainings(spec, len(schedules))
    return [make(rival, schedule, *sets, device) for make, schedule in zip(_kind(spec).stages, schedules, strict=True)]


def check_trainings(spec: RivalSpec, count: int) -> None:
    """Hold the number of schedules to the kind's number of stages.

    Raises:
        RecipeError: if it is another, or there is no such kind.
    """
    wanted = len(_kind(spec).stages)
    if count != wanted:
        raise RecipeError(f"rival {spec.kind} has another number of trainings than {count}: {wanted}")


def _check_options(spec: RivalSpec) -> None:
    known = _kind(spec).options
    for name in spec.options:
        if name not in known:
            raise RecipeError(f"rival {spec.kind}: no option {name!r}; there are: {', '.join(known) or 'none'}")
    for name, value in spec.options.items():
        types, words = FORMS.get(name, ((int,), "a whole number"))
        if type(value) not in types:
            raise RecipeError(f"rival {spec.kind}: {name} must be {words}, not {value!r}")


def trains(spec: RivalSpec) -> bool:
    """Whether N itself is what is trained."""
    return _kind(spec).trains


def alone(spec: RivalSpec) -> bool:
    """Whether it is a network alone, which is its own N."""
    return _kind(spec).alone


def _kind(spec: RivalSpec) -> Kind:
    if spec.kind not in KINDS:
        raise RecipeError(f"no rival {spec.kind!r}; there are: {', '.join(KINDS)}")
    return KINDS[spec.kind]


def _plain(classifier: nn.Module, shape: Shape, classes: int) -> nn.Module:
    return classifier


def _around(rival: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Of a rival that is made of N and its options alone."""

    def built(classifier: nn.Module, shape: Shape, classes: int, **options: Any) -> nn.Module:
        return rival(classifier, **options)

    return built


def _augmented(classifier: nn.Module, shape: Shape, classes: int, **options: Any) -> nn.Module:
    rival, side = Augmented(classifier, **options), min(shape[1:])
    if rival.shift >= side:
        raise ValueError(f"shift must be below the {side} pixels of an image's side, not {rival.shift}")
    return rival


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


def _classifier_stage(
    rival: nn.Module, schedule: ClassifierTraining, train: Dataset, held_out: Dataset, device: torch.device
) -> Stage:
    return ClassifierStage("classifier", rival, schedule, train, held_out, device)


def _denoising_stage(
    rival: Denoised, schedule: ClassifierTraining, train: Dataset, held_out: Dataset, device: torch.device
) -> Stage:
    return DenoisingStage(rival, schedule, train, held_out, device, schedule.attacks)


def _wgan_stage(
    rival: DefenseGAN, schedule: ClassifierTraining, train: Dataset, held_out: Dataset, device: torch.device
) -> Stage:
    return WGANStage(WGAN(rival.generator, critic(train.shape)), schedule, train, held_out, device)


def _diffusion_stage(
    rival: DiffusionPurified, schedule: ClassifierTraining, train: Dataset, held_out: Dataset, device: torch.device
) -> Stage:
    return DiffusionStage(rival.ddpm, schedule, train, held_out, device)


KINDS: Mapping[str, Kind] = {
    "classifier": Kind(_plain, (_classifier_stage,), trains=True, alone=True),
    "parseval": Kind(_plain, (ParsevalStage,), trains=True, alone=True),
    "winners": Kind(_around(WinnersTakeAll), (_classifier_stage,), ("gamma",), trains=True, alone=True),
    "smoothing": Kind(_around(Smoothed), (NoisyStage,), ("sigma", "samples"), trains=True),
    "augmentation": Kind(_augmented, (), ("samples", "shift", "flip")),
    "denoising": Kind(_denoised, (_denoising_stage,), ("hidden", "code")),
    "puvae": Kind(_puvae, (PuVAEStage,), ("latent", "hidden")),
    "defense-gan": Kind(
        _defense_gan,
        (_wgan_stage, EncoderStage),
        ("latent", "hidden", "steps", "restarts", "rate", "refinements"),
    ),
    "diffusion": Kind(_diffusion, (_diffusion_stage,), ("width", "levels", "horizon", "t", "steps")),
}
"""Every rival by the name of its kind; "classifier" is a network alone, adversarially trained or not."""
