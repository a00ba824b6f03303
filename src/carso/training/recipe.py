"""A recipe: one experiment as data, from the classifier's layers to the purifier's attacks.

Every field has a type and most have a default. Recipes are written in YAML, which `carso.training.reading` reads; the
resolved recipe, defaults included, is saved beside the weights.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, model_validator

from carso.storage.schema import Schema
from carso.types import Budget, Norm, radius
from carso.vote import MOST, Aggregation

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def _written(value: object) -> object:
    """Eight of 255 grey levels may be written 8/255."""
    return radius(value) if isinstance(value, str) else value


Radius = Annotated[float, BeforeValidator(_written), Field(gt=0, le=10)]


def _yaml_true(value: object) -> object:
    """YAML reads a bare `true` as a boolean."""
    return "true" if value is True else value


class _Strict(Schema, extra="forbid"):
    pass


class AttackSpec(_Strict):
    """One attack of a training mixture.

    "annealed" is PGD whose step shrinks from 2 eps to almost nothing (`carso.attacks.annealed`); `alpha` is PGD's own.
    "noise" is drawn uniformly from the ball and follows no gradient. "n-fgsm" is one step of length eps from noise in
    the ball of twice the radius, not projected back: it costs one gradient, and training with it does not collapse as
    with "fgsm" (P. de Jorge et al., "Make some noise", NeurIPS 2022). It is for training alone.
    """

    attack: Literal["fgsm", "n-fgsm", "pgd", "annealed", "noise"]
    eps: Radius
    norm: Norm = "Linf"
    steps: Positive = 40
    alpha: Radius | None = None
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy"
    directed_at: Literal["classifier", "defence"] = "classifier"

    @model_validator(mode="after")
    def _coherent(self) -> AttackSpec:
        if self.alpha is not None and self.attack != "pgd":
            raise ValueError(f"alpha is the step of pgd; {self.attack} has none to choose")
        return self

    @property
    def budget(self) -> Budget:
        """Its ball."""
        return Budget(self.norm, self.eps)


class Schedule(_Strict):
    """How a network is optimised.

    `rate` is the peak learning rate. "plateau" multiplies it by `factor` when the loss has not fallen for `patience`
    epochs (thesis); "cosine" warms up linearly over `warmup` of the steps, then follows half a cosine to zero.
    `average` is the decay per step of an exponential moving average of the weights, 0 for none. `threads` is how many
    of the processor's threads to use, by default all: on a given number, sums have the same order on every machine.
    `optimiser`: "radam" decouples its weight decay from the rate's adaptation; "sgd" has Nesterov's momentum of 0.9.
    """

    epochs: Positive
    batch: Annotated[int, Field(ge=2)] = 256
    batches: Positive | None = None
    rate: Annotated[float, Field(gt=0)]
    shape: Literal["cosine", "plateau"] = "cosine"
    warmup: Fraction = 0.05
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.6
    patience: Positive = 10
    average: Fraction = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    optimiser: Literal["radam", "sgd"] = "radam"
    threads: Positive | None = None


OPTIONS = {"mlp": ("maps", "hidden", "dropout", "output"), "resnet": ("width", "blocks", "stem", "activation")}
"""The fields of each architecture of the library."""


class ClassifierSpec(_Strict):
    """N's architecture: a `carso.nn.MLP`, a `carso.nn.ResNet`, or what a function of the user's returns.

    Of an "mlp", `maps`: channels of convolutions before the hidden layers. Of a "resnet", `width`: channels of the
    first group; `blocks`: how many each group has; `stem`: channels of the first convolution, by default `width`.
    `factory` returns a trained module, or one that the section `adversarial` trains.
    """

    architecture: Literal["mlp", "resnet"] = "mlp"
    maps: tuple[Positive, ...] = ()
    hidden: tuple[Positive, ...] = (200, 80)
    dropout: Fraction = 0.15
    output: Literal["logits", "mish-log-softmax"] = "logits"
    width: Positive = 32
    blocks: tuple[Positive, ...] = (2, 2, 2, 2)
    stem: Positive | None = None
    activation: Literal["relu", "silu", "mish"] = "relu"
    factory: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None

    @model_validator(mode="after")
    def _of_one_architecture(self) -> ClassifierSpec:
        fields = type(self).model_fields
        for architecture, own in OPTIONS.items():
            idle = [name for name in own if getattr(self, name) != fields[name].default]
            if architecture != self.architecture and idle:
                raise ValueError(f"{idle[0]} is of architecture: {architecture}, and this is {self.architecture}")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The architecture's own fields."""
        return {name: getattr(self, name) for name in OPTIONS[self.architecture]}


class ClassifierTraining(Schedule):
    """Stage 1.

    `mixing`: "parts" splits each batch evenly over clean images and the attacks; "steps" takes one optimiser step for
    the clean batch and one for each attack on the whole of it, as the published code does.
    `ramp`: share of the epochs over which the attacks' radii grow to what they are.
    `clean`: whether clean images are a part beside the attacks; without them, training is that of Madry et al.
    `crop`: pixels by which images are shifted at most, each way, before they are attacked; `flip`: whether half of them
    are mirrored, left to right.
    `trades`: beta of TRADES, 0 for none. The loss is then CE(N(x), y) + beta KL(N(x) || N(x')) over whole batches, of
    which the attacks climb the divergence.
    """

    attacks: tuple[AttackSpec, ...] = ()
    mixing: Literal["parts", "steps"] = "parts"
    ramp: Fraction = 0.0
    clean: bool = True
    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    trades: Annotated[float, Field(ge=0, le=1000)] = 0.0

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> ClassifierTraining:
        if not self.clean and not self.attacks:
            raise ValueError("clean: false needs attacks, or a batch would have no part")
        return self

    @model_validator(mode="after")
    def _divergence_to_climb(self) -> ClassifierTraining:
        if self.trades and (not self.attacks or self.mixing == "steps"):
            raise ValueError("trades needs attacks, and whole batches: mixing: parts")
        if self.trades and any(a.attack == "fgsm" or a.loss != "cross_entropy" for a in self.attacks):
            raise ValueError("attacks of trades climb the divergence, flat at the image: no fgsm, no loss of their own")
        return self


class PurifierSpec(_Strict):
    """The conditional VAE's architecture and what it reads of N.

    `kind`: "dense" or "convolutional"; by default dense for grey images of at most 32 pixels a side. Of a dense one,
    `widths`: the rule for the sizes of its layers; `representation`: those of R in place of the rule's, the last being
    the code's; `maps`: channels of the convolutions that R begins with on layers that are images or maps. Of a
    convolutional one, `code`: dimension of c; `compression`: the rule by which layers are compressed; `maps`: channels
    of the residual groups that read the image itself, where `input` is one of the layers. `latent`: the
    dimension of z, by default 36 or 128. R runs once per image, not once per candidate, so that it may be large.
    """

    kind: Literal["dense", "convolutional"] | None = None
    latent: Positive | None = None
    code: Positive = 512
    compression: Literal["published", "bounded"] = "bounded"
    widths: Literal["published", "interpolated"] = "published"
    representation: tuple[Positive, ...] = ()
    maps: tuple[Positive, ...] = ()
    layers: tuple[str, ...] | None = None


class PurifierTraining(Schedule):
    """Stage 2.

    `feed`: "fresh" attacks every batch anew, "cached" attacks the training images once (N is frozen, so that loses only
    the random starts), "pairs" reads ready-made (attacked, clean) images from the file `pairs`.
    `labels`: what the attacks attack, N's own prediction on the clean image or the "true" label.
    `ramp`: share of the epochs over which the attacks' radii grow to what they are; needs attacks made anew.
    `consistency`: weight of the cross-entropy of N on a recalled sample, against the same labels.
    """

    attacks: tuple[AttackSpec, ...] = ()
    mixing: Literal["parts", "steps"] = "steps"
    feed: Literal["fresh", "cached", "pairs"] = "cached"
    pairs: str | None = None
    labels: Annotated[Literal["predicted", "true"], BeforeValidator(_yaml_true)] = "predicted"
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    kl_warmup: Fraction = 0.0
    ramp: Fraction = 0.0
    consistency: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _coherent(self) -> PurifierTraining:
        if (self.feed == "pairs") != (self.pairs is not None):
            raise ValueError("feed: pairs and the file `pairs` go together")
        if self.feed == "cached" and any(a.directed_at == "defence" for a in self.attacks):
            raise ValueError("attacks on the defence change as the purifier learns: use feed: fresh")
        if self.feed != "fresh" and self.ramp:
            raise ValueError("ramp needs attacks made anew: use feed: fresh")
        return self


class Recipe(_Strict):
    """Everything that decides the weights, but for the seed's default; without `purification`, a classifier alone.

    `samples`: K, by default 1500 for a dense purifier and 8 for a convolutional one; they answer by `aggregation` (see
    `carso.vote`). `hardening` goes on from the purifier of `purification`, with attacks and weights of its own.
    """

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=100)]
    data: str = "mnist"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    samples: Annotated[int, Field(gt=0, le=MOST)] | None = None
    aggregation: Aggregation = "mode"
    classifier: ClassifierSpec = ClassifierSpec()
    undefended: ClassifierTraining | None = None
    adversarial: ClassifierTraining | None = None
    purifier: PurifierSpec = PurifierSpec()
    purification: PurifierTraining | None = None
    hardening: PurifierTraining | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Recipe:
        if self.hardening is not None and self.purification is None:
            raise ValueError("hardening goes on from a purification, which is missing")
        return self

    @property
    def fingerprint(self) -> str:
        """A short digest of every field: two recipes train the same weights if it is the same."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def to_yaml(self) -> str:
        """The resolved recipe, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
