"""A recipe: one experiment as data, from the classifier's layers to the purifier's attacks.

Every field has a type and most have a default; what each one does is said beneath it, from where `docs/recipes.md` has
it too. Recipes are written in YAML, which `carso.training.reading` reads; the resolved recipe, defaults included, is
saved beside the weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, model_validator

from carso.storage.headers import FACTORY, fitting_of
from carso.storage.schema import Schema
from carso.types import Budget, Norm, radius, sides
from carso.vote import MOST, Aggregation

Positive = Annotated[int, Field(gt=0, le=10**9)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def _written(value: object) -> object:
    """Eight of 255 grey levels may be written 8/255."""
    return radius(value) if isinstance(value, str) else value


Radius = Annotated[float, BeforeValidator(_written), Field(gt=0)]


def _sides(value: object) -> object:
    """Height and width may be written 224x224."""
    return sides(value) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Size = Annotated[tuple[Positive, Positive], BeforeValidator(_sides)]


def _yaml_true(value: object) -> object:
    """YAML reads a bare `true` as a boolean."""
    return "true" if value is True else value


class Unit(str):
    """What a number of a field counts or measures."""


PIXEL_VALUES = Unit("pixel values in [0, 1]")
SHARE_OF_STEPS, SHARE_OF_EPOCHS = Unit("share of the steps"), Unit("share of the epochs")


class Section(Schema, extra="forbid", use_attribute_docstrings=True):
    """A part of a recipe; the words beneath a field describe it."""


class AttackSpec(Section):
    """One attack of a training mixture.

    "annealed" is PGD whose step shrinks from 2 eps to almost nothing (`carso.attacks.annealed`); `alpha` is PGD's own.
    "noise" is drawn from the ball, uniformly in Linf, else with a uniform radius; it follows no gradient. "n-fgsm" is
    one step of length eps from noise in the ball of twice the radius, not projected back: it costs one gradient, and
    training with it does not collapse as with "fgsm" (P. de Jorge et al., "Make some noise", NeurIPS 2022). It is for
    training alone.
    """

    attack: Literal["fgsm", "n-fgsm", "pgd", "annealed", "noise"]
    """The method."""
    eps: Annotated[Radius, PIXEL_VALUES]
    """Radius of the ball; may be written `8/255`."""
    norm: Norm = "Linf"
    """Of the ball."""
    steps: Annotated[Positive, Unit("gradients")] = 40
    """Of pgd and annealed."""
    alpha: Annotated[Radius | None, PIXEL_VALUES] = None
    """Length of a step of pgd; by default 2.5 eps / steps."""
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy"
    """What the attack climbs."""
    directed_at: Literal["classifier", "defence"] = "classifier"
    """Whose gradients it follows: N's, or those of the whole defence."""

    @model_validator(mode="after")
    def _coherent(self) -> AttackSpec:
        if self.alpha is not None and self.attack != "pgd":
            raise ValueError(f"alpha is the step of pgd; {self.attack} has none to choose")
        return self

    @model_validator(mode="after")
    def _within_the_images(self) -> AttackSpec:
        if self.norm == "Linf" and self.eps > 1:
            raise ValueError(f"eps is at most 1 in Linf, as images are in [0, 1]; did you mean {self.eps:g}/255?")
        return self

    @property
    def budget(self) -> Budget:
        """Its ball."""
        return Budget(self.norm, self.eps)


class Schedule(Section):
    """How a network is optimised."""

    epochs: Annotated[Positive, Unit("epochs")]
    """How often it goes through the images."""
    batch: Annotated[int, Field(ge=2), Unit("images")] = 256
    """Of one step; fewer where there are not as many."""
    accumulate: Annotated[Positive, Unit("portions")] = 1
    """Of a batch, one after the other, that take less memory; their gradients are added up. Where memory
    runs out, a training goes on with twice as many, once."""
    batches: Annotated[Positive | None, Unit("batches")] = None
    """Of an epoch, at most, drawn anew for each; by default all images."""
    rate: Annotated[float, Field(gt=0)]
    """Peak learning rate."""
    shape: Literal["cosine", "linear", "plateau"] = "cosine"
    """Its course: up over `warmup`, then down to zero, half a cosine or evenly; or times `factor` on a plateau."""
    warmup: Annotated[Fraction, SHARE_OF_STEPS] = 0.05
    """Of cosine and linear: over how many the rate rises from zero."""
    flat: Annotated[Fraction, SHARE_OF_STEPS] = 0.0
    """Of linear: for how many it then stays."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Of plateau: what the rate is multiplied by."""
    patience: Annotated[Positive, Unit("epochs")] = 10
    """Of plateau: how many without a new lowest loss it waits for."""
    average: Annotated[Fraction, Unit("per step")] = 0.0
    """Decay of an exponential moving average of the weights, which is what is kept; 0 for none."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """How far weights are drawn to zero, times the rate."""
    optimiser: Literal["radam", "sgd"] = "radam"
    """RAdam, its weight decay apart from the adaptation; or SGD with Nesterov's momentum of 0.9."""
    lookahead: Annotated[int, Field(ge=0), Unit("steps")] = 0
    """Between two of the slow weights; 0 for none."""
    threads: Annotated[Positive | None, Unit("threads")] = None
    """By default all; on a given number, sums have the same order on every machine."""

    @model_validator(mode="after")
    def _falling_in_time(self) -> Schedule:
        if self.flat and (self.shape != "linear" or self.warmup + self.flat >= 1):
            raise ValueError("flat is of shape: linear, and leaves with warmup some of the steps to fall")
        return self


KINDS = {
    "dense": ("widths", "hidden", "representation", "maps"),
    "convolutional": ("code", "compression", "maps"),
    "corrective": ("width", "blocks", "channels", "shift", "flip", "contrast"),
}
"""The fields of each kind of purifier."""

OPTIONS = {
    "mlp": ("maps", "hidden", "dropout", "output", "contrast"),
    "cnn": ("groups", "hidden", "contrast"),
    "resnet": ("width", "blocks", "stem", "activation"),
}
"""The fields of each architecture of the library."""


def check_only(spec: Section, field: str, table: Mapping[str, Sequence[str]], of: Sequence[str]) -> None:
    """Hold the fields of a table's other entries to their defaults.

    Args:
        spec: the section.
        field: what the table's entries are.
        table: the fields of each.
        of: the entries that the section may be of.

    Raises:
        ValueError: naming the first field that would do nothing.
    """
    fields, own = type(spec).model_fields, {name for entry in of for name in table[entry]}
    for entry, names in table.items():
        idle = [name for name in names if name not in own and getattr(spec, name) != fields[name].default]
        if idle:
            raise ValueError(f"{idle[0]} is of {field}: {entry}, and this is {' or '.join(of)}")


class ClassifierSpec(Section):
    """N's architecture: a `carso.nn.MLP`, `CNN` or `ResNet`, or what a function of the user's returns."""

    architecture: Literal["mlp", "cnn", "resnet"] = "mlp"
    """Which of the library's own."""
    maps: Annotated[tuple[Positive, ...], Unit("channels")] = ()
    """Of an mlp: its convolutions, before the hidden layers."""
    groups: Annotated[tuple[Positive, ...], Unit("channels")] = (32, 64)
    """Of a cnn: two convolutions each, before the hidden layers."""
    hidden: Annotated[tuple[Positive, ...], Unit("neurons")] = (200, 80)
    """Of an mlp or cnn: its hidden layers."""
    contrast: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Of an mlp or cnn: the change of a pixel that black and white withstand, by `carso.nn.Contrast`; 0 for none. The
    undefended network has none."""
    dropout: Annotated[Fraction, Unit("share of the neurons")] = 0.15
    """Of an mlp: what is left out in training."""
    output: Literal["logits", "mish-log-softmax"] = "logits"
    """Of an mlp: what it returns; the latter is the published code's, which weakens attacks."""
    width: Annotated[Positive, Unit("channels")] = 32
    """Of a resnet: its first group; every further one has twice as many."""
    blocks: Annotated[tuple[Positive, ...], Unit("blocks")] = (2, 2, 2, 2)
    """Of a resnet: its groups."""
    stem: Annotated[Positive | None, Unit("channels")] = None
    """Of a resnet: its first convolution; by default as `width`."""
    activation: Literal["relu", "silu", "mish"] = "relu"
    """Of a resnet."""
    factory: Annotated[str, Field(pattern=FACTORY)] | None = None
    """`package.module:function` that returns a trained module, or one that the section `adversarial` trains."""

    @model_validator(mode="after")
    def _of_one_architecture(self) -> ClassifierSpec:
        check_only(self, "architecture", OPTIONS, [self.architecture])
        return self

    @model_validator(mode="after")
    def _of_ours_or_the_users(self) -> ClassifierSpec:
        fields = type(self).model_fields
        ours = [
            name
            for name in ("architecture", *OPTIONS[self.architecture])
            if getattr(self, name) != fields[name].default
        ]
        if self.factory is not None and ours:
            raise ValueError(f"{ours[0]} is of the library's own networks, and factory says who makes this one")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The architecture's own fields."""
        return {name: getattr(self, name) for name in OPTIONS[self.architecture]}


class Augmented(Schedule):
    """A schedule on images that are moved before they are attacked."""

    crop: Annotated[int, Field(ge=0), Unit("pixels")] = 0
    """By how many images are shifted at most, each way."""
    flip: bool = False
    """Whether half of the images are mirrored, left to right."""


class ClassifierTraining(Augmented):
    """Stage 1: a classifier, clean or adversarially."""

    attacks: tuple[AttackSpec, ...] = ()
    """On the network as it is; none trains it on clean images alone."""
    mixing: Literal["parts", "steps"] = "parts"
    """A batch in equal parts, clean and under each attack; or a step on the whole of it for each, as published."""
    ramp: Annotated[Fraction, SHARE_OF_EPOCHS] = 0.0
    """Over how many the attacks' radii grow to what they are."""
    clean: bool = True
    """Whether clean images are a part; without them it is the training of Madry et al."""
    trades: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Beta of TRADES, CE(N(x), y) + beta KL(N(x) || N(x')), whose divergence the attacks climb; 0 for none."""

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> ClassifierTraining:
        if not self.clean and not self.attacks:
            raise ValueError("clean: false needs attacks, or a batch would have no part")
        if any(a.directed_at == "defence" for a in self.attacks):
            raise ValueError("there is no defence before the purifier: attacks of a classifier are directed at it")
        return self

    @model_validator(mode="after")
    def _divergence_to_climb(self) -> ClassifierTraining:
        if self.trades and not self.clean:
            raise ValueError("trades has the clean images in its loss: leave out clean: false")
        if self.trades and (not self.attacks or self.mixing == "steps"):
            raise ValueError("trades needs attacks, and whole batches: mixing: parts")
        if self.trades and any(a.attack == "fgsm" or a.loss != "cross_entropy" for a in self.attacks):
            raise ValueError("attacks of trades climb the divergence, flat at the image: no fgsm, no loss of their own")
        return self


class PurifierSpec(Section):
    """The conditional VAE's architecture, and what it reads of N. R runs once per image, so that it may be large."""

    kind: Literal["dense", "convolutional", "corrective"] | None = None
    """By default, whatever the classifier is, dense for grey images of at most 32 pixels a side, else convolutional;
    corrective: keeps the image."""
    latent: Annotated[Positive | None, Unit("dimensions")] = None
    """Of z; by default 36 if dense, 128 if convolutional, 32 if corrective."""
    code: Annotated[Positive, Unit("dimensions")] = 512
    """Of c, if convolutional."""
    compression: Literal["published", "bounded"] = "bounded"
    """How layers are compressed, if convolutional: as published, or to a bounded size."""
    widths: Literal["published", "interpolated", "uncompressed"] = "published"
    """The rule for the sizes of the layers, if dense; uncompressed: as published, but R and I hand on what they get."""
    hidden: Annotated[int, Field(gt=0, le=16), Unit("layers")] = 2
    """Hidden ones of I, R and D, if dense and `interpolated`."""
    representation: Annotated[tuple[Positive, ...], Unit("neurons")] = ()
    """The layers of R, the code's last, in place of the rule's; if dense."""
    maps: Annotated[tuple[Positive, ...], Unit("channels")] = ()
    """Convolutions with which R begins, if dense; residual groups that read the layer `input`, if convolutional."""
    width: Annotated[Positive, Unit("channels")] = 48
    """Of R's grid, if corrective."""
    blocks: Annotated[Positive, Unit("residual blocks")] = 2
    """On each of R's grids, if corrective."""
    channels: Annotated[Positive, Unit("channels")] = 16
    """That R adds to the image, if corrective."""
    shift: Annotated[int, Field(ge=0), Unit("pixels")] = 0
    """Up or down and left or right, from where a candidate is seen, if corrective."""
    flip: bool = False
    """Whether a candidate may be seen in a mirror, if corrective."""
    contrast: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """The change of a pixel that black and white withstand, if corrective; 0 for none."""
    layers: tuple[str, ...] | None = None
    """Whose outputs R reads: names of N's modules, `input`, `output`; by default those that are proposed and said."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> PurifierSpec:
        check_only(self, "kind", KINDS, [self.kind] if self.kind else ["dense", "convolutional"])
        return self

    @model_validator(mode="after")
    def _sized_once(self) -> PurifierSpec:
        if self.hidden != 2 and self.widths != "interpolated":
            raise ValueError("hidden is of widths: interpolated; the other rules have sizes for two")
        if self.widths == "uncompressed" and (self.representation or self.maps):
            raise ValueError("widths: uncompressed has no R; leave out representation and maps")
        return self


class PurifierTraining(Augmented):
    """Stage 2: the purifier."""

    attacks: tuple[AttackSpec, ...] = ()
    """Under which it learns to recall the clean image."""
    clean: Annotated[Positive, Unit("parts")] = 1
    """Of a batch, that are clean, beside one for each attack."""
    mixing: Literal["parts", "steps"] = "steps"
    """A batch in equal parts, clean and under each attack; or a step on the whole of it for each, as published."""
    feed: Literal["fresh", "cached", "pairs"] = "cached"
    """Attacked anew in every batch; once, as N is frozen; or ready-made pairs of attacked and clean images."""
    pairs: str | None = None
    """The file of the pairs; its labels, if it has any, are as N numbers its classes."""
    labels: Annotated[Literal["predicted", "true"], BeforeValidator(_yaml_true)] = "predicted"
    """What attacks move away from: N's own answer to the clean image, or the true label."""
    reconstruction: Literal["bce", "l2"] = "bce"
    """The loss that recalled images are held to: binary cross-entropy, or squared error, summed over the pixels."""
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the KL term of the loss."""
    kl_lag: Annotated[Fraction, SHARE_OF_EPOCHS] = 0.0
    """For how many that weight is 0."""
    kl_warmup: Annotated[Fraction, SHARE_OF_EPOCHS] = 0.0
    """Over how many it then grows to what it is."""
    ramp: Annotated[Fraction, SHARE_OF_EPOCHS] = 0.0
    """Over how many the attacks' radii grow to what they are; needs attacks made anew."""
    consistency: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the cross-entropy of N on a recalled sample, against `labels`."""
    trades: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Within that: of KL(N on what is recalled clean || on what is recalled attacked); the cross-entropy is then of the
    former alone."""

    @model_validator(mode="after")
    def _coherent(self) -> PurifierTraining:
        if (self.feed == "pairs") != (self.pairs is not None):
            raise ValueError("feed: pairs and the file `pairs` go together")
        if self.pairs is not None and self.attacks:
            raise ValueError("feed: pairs has its attacks in the file; leave them out here: attacks: []")
        if self.feed == "cached" and any(a.directed_at == "defence" for a in self.attacks):
            raise ValueError("attacks on the defence change as the purifier learns: use feed: fresh")
        if self.feed != "fresh" and (self.ramp or self.crop or self.flip):
            raise ValueError("ramp, crop and flip need attacks made anew: use feed: fresh")
        if self.kl_lag + self.kl_warmup >= 1:
            raise ValueError("kl_lag and kl_warmup must be less than 1 together, for kl_weight to be reached")
        if self.trades and not self.consistency:
            raise ValueError("trades is within the weight of consistency, which is 0")
        return self


class Recipe(Section):
    """Everything that decides the weights, but for the seed's default; without `purification`, a classifier alone."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=100)]
    """Of the run, and of its folder."""
    data: str = "mnist"
    """A data set's name, or a folder."""
    size: Size | None = None
    """Height and width to which the pictures of a folder are cut and resized, such as 224x224."""
    channels: Literal[1, 3] | None = None
    """Grey or coloured, which they are made."""
    skip_bad: bool = False
    """Whether pictures that cannot be used are left out."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Root of all randomness."""
    samples: Annotated[int | None, Field(gt=0, le=MOST), Unit("candidates")] = None
    """K; by default 1500 for a dense purifier, 8 for any other."""
    aggregation: Aggregation = "mode"
    """How the candidates' answers become one."""
    classifier: ClassifierSpec = ClassifierSpec()
    """N's architecture."""
    undefended: ClassifierTraining | None = None
    """A classifier for comparison, usually clean."""
    adversarial: ClassifierTraining | None = None
    """The training of N."""
    purifier: PurifierSpec = PurifierSpec()
    """Its architecture."""
    purification: PurifierTraining | None = None
    """Its training."""
    hardening: PurifierTraining | None = None
    """What goes on from the purifier of `purification`, with attacks and weights of its own."""

    @model_validator(mode="after")
    def _coherent(self) -> Recipe:
        if self.hardening is not None and self.purification is None:
            raise ValueError("hardening goes on from a purification, which is missing")
        return self

    @property
    def fitting(self) -> dict[str, Any]:
        """How `carso.data.load` is to make the pictures of a folder alike: the fields that say so, if any."""
        return fitting_of(self)

    @property
    def against_attacks(self) -> bool:
        """Whether N is trained against attacks."""
        return self.adversarial is not None and bool(self.adversarial.attacks)

    @property
    def first_stage(self) -> dict[str, Any]:
        """The fields that decide N: two recipes train the same one if these are the same."""
        return self.model_dump(include={"data", "size", "channels", "skip_bad", "seed", "classifier", "adversarial"})

    @property
    def fingerprint(self) -> str:
        """A short digest of every field: two recipes train the same weights if it is the same."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def to_yaml(self) -> str:
        """The resolved recipe, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
