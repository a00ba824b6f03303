"""What the headers of weights say, field by field.

Sizes are bounded only so that their products can be formed: a module is built without memory, and filled when it has
been found to be as large as the file (`carso.storage.weights`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, ValidationError, model_validator

from carso.nn.convolutional import Compression
from carso.nn.mlp import Output
from carso.nn.resnet import Activation
from carso.purifier import Widths
from carso.storage.schema import Schema
from carso.types import Norm
from carso.vote import MOST, Aggregation, Stop

Size = Annotated[int, Field(ge=1, le=2**24)]
Sizes = Annotated[tuple[Size, ...], Field(max_length=256)]
SomeSizes = Annotated[tuple[Size, ...], Field(min_length=1, max_length=256)]
Shape = tuple[Size, Size, Size]
Shapes = Annotated[tuple[SomeSizes, ...], Field(min_length=1, max_length=4096)]
Classes = Annotated[int, Field(ge=2, le=2**24)]
Name = Annotated[str, Field(min_length=1, max_length=300)]
Share = Annotated[float, Field(ge=0, lt=1)]
Contrast = Annotated[float, Field(ge=0, lt=0.5)]
Positive = Annotated[float, Field(gt=0)]

OF_OLD = {"mean": "mean-probability"}
"""What aggregations were called when their field was `rule`."""


def _renamed(value: object) -> object:
    return OF_OLD.get(value, value) if isinstance(value, str) else value


class NetworkOptions(Schema):
    """What the library's own classifiers have in common; mean and std are one for all channels, or one each."""

    shape: Shape
    classes: Classes
    mean: tuple[float, ...]
    std: tuple[Positive, ...]

    @model_validator(mode="after")
    def _of_the_channels(self) -> NetworkOptions:
        if not {len(self.mean), len(self.std)} <= {1, self.shape[0]}:
            raise ValueError(f"mean and std must have {self.shape[0]} values each, one per channel, or one for all")
        return self


class MLPOptions(NetworkOptions):
    """The arguments of `carso.nn.MLP`."""

    hidden: Sizes
    dropout: Share
    output: Output = "logits"
    maps: Sizes = ()
    contrast: Contrast = 0.0


class CNNOptions(NetworkOptions):
    """The arguments of `carso.nn.CNN`."""

    groups: SomeSizes
    hidden: Sizes
    contrast: Contrast = 0.0


class ResNetOptions(NetworkOptions):
    """The arguments of `carso.nn.ResNet`."""

    width: Size
    blocks: SomeSizes
    stem: Size | None = None
    activation: Activation = "relu"


OPTIONS: dict[str, type[Schema]] = {"mlp": MLPOptions, "cnn": CNNOptions, "resnet": ResNetOptions}
"""The schema of a classifier's options, by its architecture."""


def fitting_of(told: Any) -> dict[str, Any]:
    """How pictures are made alike, as `carso.data.load` is told: those of its three fields that say so."""
    return {name: value for name in ("size", "channels", "skip_bad") if (value := getattr(told, name))}


FACTORY = r"^[\w.]+:\w+$"
"""What the name of a function looks like, `package.module:function`."""


class OwnClassifier(Schema):
    """What a recipe says of a classifier of the user's own."""

    factory: Annotated[str, Field(pattern=FACTORY, max_length=300)] | None = None


class OwnAttack(Schema):
    """What a recipe says of an attack of a training."""

    attack: Annotated[str, Field(max_length=300)]
    norm: Norm = "Linf"
    eps: Positive
    directed_at: Literal["classifier", "defence"] = "classifier"


class Section(Schema):
    """What a recipe says of a training."""

    attacks: tuple[OwnAttack, ...] = ()


class Origin(Schema):
    """As much of a recipe as is read of it here, and what its defence's classes are called."""

    data: Annotated[str, Field(min_length=1)] | None = None
    size: tuple[Size, Size] | None = None
    channels: Literal[1, 3] | None = None
    skip_bad: bool = False
    classifier: OwnClassifier = OwnClassifier()
    adversarial: Section | None = None
    purification: Section | None = None
    hardening: Section | None = None
    names: tuple[str, ...] | None = None

    @property
    def may_be_digits(self) -> bool:
        """Whether nothing says that its classes are others than numbers in order."""
        return self.names is None or self.names == tuple(map(str, range(len(self.names))))

    @property
    def against_attacks(self) -> bool:
        """Whether its classifier is known to be trained against attacks."""
        return bool(self.own_attacks)

    @property
    def own_attacks(self) -> tuple[OwnAttack, ...]:
        """Those of its classifier's training."""
        return () if self.adversarial is None else self.adversarial.attacks

    @property
    def attacks(self) -> tuple[OwnAttack, ...]:
        """Those of all trainings, in their order."""
        sections = (self.adversarial, self.purification, self.hardening)
        return tuple(attack for section in sections if section is not None for attack in section.attacks)


class Header(Schema):
    """Of any file of weights; recipe, seed and figures are for its readers."""

    recipe: Any = None

    @property
    def origin(self) -> Origin:
        """What the recipe says; nothing, where there is none or it is not understood."""
        try:
            return Origin.model_validate(self.recipe, strict=False)
        except ValidationError:
            return Origin()

    @property
    def factory(self) -> str | None:
        """The function that made a classifier of the user's own, if the recipe names one."""
        return self.origin.classifier.factory


class ClassifierHeader(Header):
    """Of a classifier: the library's own with its options, or one that only its owner can build.

    `trained`: whether its weights come of the folder's own stage 1, and not with the module.
    """

    architecture: Literal["mlp", "cnn", "resnet", "foreign"]
    trained: bool = False
    options: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _with_options(self) -> ClassifierHeader:
        if (self.architecture in OPTIONS) != (self.options is not None):
            raise ValueError(f"options go with the architectures {' and '.join(OPTIONS)}, and with no other")
        return self


class WidthsOptions(Schema):
    """The fields of `carso.purifier.Widths`."""

    image: Sizes
    representation: Sizes
    encoder: SomeSizes
    decoder: SomeSizes

    @property
    def widths(self) -> Widths:
        """The widths themselves."""
        return Widths(self.image, self.representation, self.encoder, self.decoder)


class MapsOptions(Schema):
    """The arguments of `carso.nn.maps.Maps`."""

    shapes: Shapes
    channels: SomeSizes


class ConvolutionsOptions(Schema):
    """The arguments of `carso.purifier.ConvolutionalPurifier` beside shape and latent."""

    shapes: Shapes
    code: Size
    compression: Compression
    maps: Annotated[tuple[Size, ...], Field(max_length=16)] = ()


class CorrectionOptions(Schema):
    """The arguments of `carso.correction.CorrectivePurifier` beside shape and latent."""

    shapes: Shapes
    width: Size
    channels: Size
    blocks: Size
    shift: Annotated[int, Field(ge=0, le=MOST)]
    flip: bool
    contrast: Contrast = 0.0


class CalibrationOptions(Schema):
    """The fields of `carso.detection.Calibration`."""

    n: Size
    lowest: Annotated[tuple[Annotated[float, Field(le=0, allow_inf_nan=False)], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ascending(self) -> CalibrationOptions:
        if list(self.lowest) != sorted(self.lowest) or len(self.lowest) > self.n:
            raise ValueError(f"lowest must be ascending and at most n = {self.n}")
        return self


class PurifierHeader(Header):
    """Of a purifier: its sizes, how its defence votes, and the digest of the classifier that it belongs to.

    A dense one has `widths`, and `maps` if it begins with convolutions; a convolutional one has `convolutions`, a
    corrective one `correction`.
    """

    shape: Shape
    neurons: Size
    latent: Size
    widths: WidthsOptions | None = None
    maps: MapsOptions | None = None
    convolutions: ConvolutionsOptions | None = None
    correction: CorrectionOptions | None = None
    layers: Annotated[tuple[Name, ...], Field(min_length=1, max_length=4096)]
    samples: Annotated[int, Field(ge=1, le=MOST)]
    aggregation: Annotated[
        Aggregation, BeforeValidator(_renamed), Field(validation_alias=AliasChoices("aggregation", "rule"))
    ]
    stop: Stop
    error: Annotated[float, Field(gt=0, lt=1)]
    classifier: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    data: Annotated[str, Field(min_length=1)] | None = None
    classes: Annotated[tuple[Name, ...], Field(min_length=2)] | None = None
    calibration: CalibrationOptions | None = None

    @property
    def origin(self) -> Origin:
        """What the recipe says, and what it does not say of data and classes."""
        told = super().origin
        return told.model_copy(update={"data": told.data or self.data, "names": self.classes})

    @model_validator(mode="after")
    def _of_one_kind(self) -> PurifierHeader:
        if sum(kind is not None for kind in (self.widths, self.convolutions, self.correction)) != 1:
            raise ValueError("a purifier has either widths or convolutions or a correction")
        return self
