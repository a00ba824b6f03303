"""The works that are timed, each with its rivals, the proof that all did the same, and its useful operations.

PGD        T steps of 4 sum_l m_l n_l operations an image: forwards and backwards through the layers m_l x n_l
vote       K (2 sum_l m_l n_l) operations an image: the decoder without the products that latents or images share,
           then N
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory

import torch
from benchmarks.speed import peers
from benchmarks.speed.machine import Shape
from benchmarks.speed.race import Contestant
from PIL import Image
from torch import Tensor, nn

from carso import attacks
from carso.data import Dataset
from carso.defence import CARSO
from carso.evaluation.examples import AdversarialExamples
from carso.evaluation.protocol import THESIS
from carso.fast import convolves, full_precision, product_dtype
from carso.recall import ROWS
from carso.training.classifier import ClassifierStage
from carso.training.loop import fit
from carso.training.reading import read_recipe
from carso.training.recipe import ClassifierTraining
from carso.types import Budget, Images, Labels, spelled
from carso.vote import Stop

EPS, STEPS, ALPHA, OVERSHOOT = 0.3, 40, 0.01, 0.02
SUCCESS_WITHIN = 1.0
"""Points by which success rates, or accuracies after training, may differ among contestants that claim the same."""

RATE = 0.001
"""Peak learning rate of the one epoch that is timed: it goes on from trained weights, which a larger one would undo."""

SUCCESS_OF_FEW = 3.0
"""The same for 100 images, of which each counts a point and starts at random."""

Results = Mapping[str, object]


@dataclass(frozen=True)
class Work:
    """One race.

    Args:
        name: of the work.
        ours: the contestants that the others are compared with, the chief one first.
        contestants: by name, each doing all of it.
        products: the shapes of its matrix products, for the machine's limit; empty for none.
        repeats: how often `products` are computed.
        limited: the contestants held to that limit, and the dtype of their products.
        check: what came out of one round -> for each contestant a figure whose mean over the rounds must agree with
            ours, since attacks start at random; None for no such figure.
        figure: what that figure is.
        within: how far the figures may differ from ours.
    """

    name: str
    ours: tuple[str, ...]
    contestants: Mapping[str, Contestant]
    products: tuple[Shape, ...] = ()
    repeats: float = 1.0
    limited: Mapping[str, torch.dtype] = field(default_factory=dict)
    check: Callable[[Results], dict[str, float]] | None = None
    figure: str = ""
    within: float = 0.0


def linears(module: nn.Module) -> list[tuple[int, int]]:
    """(inputs, outputs) of every linear layer, in order."""
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


@dataclass(frozen=True)
class Climb:
    """PGD in Linf: radius, step and number of steps."""

    eps: float
    alpha: float
    steps: int

    def ours(self, classifier: nn.Module, images: Images, labels: Labels, fast: bool | None = None) -> Images:
        """As `carso.attacks.pgd` makes it."""
        budget = Budget("Linf", self.eps)
        return attacks.pgd(classifier, images, labels, budget, steps=self.steps, alpha=self.alpha, fast=fast)

    def in_float32(self, classifier: nn.Module, images: Images, labels: Labels) -> Images:
        """Likewise, on a processor without bfloat16 units."""
        with full_precision():
            return self.ours(classifier, images, labels)


PGD_40 = Climb(EPS, ALPHA, STEPS)


def pgd(classifier: nn.Module, images: Images, labels: Labels, climb: Climb = PGD_40, on: str = "") -> Work:
    """PGD in Linf: ours in its cheaper form, ours in float32, ours by autograd, and every peer.

    The limit is that of a chain of linear layers; a network with convolutions is held to none.
    """
    n, given = len(images), (classifier, images, labels)
    contestants: dict[str, Contestant] = {
        "carso": partial(climb.ours, *given),
        "carso, float32": partial(climb.in_float32, *given),
        "carso, autograd": partial(climb.ours, *given, fast=False),
    } | dict(peers.pgd(*given, climb.eps, climb.alpha, climb.steps))
    chain = not convolves(classifier)
    return Work(
        f"PGD-{climb.steps} Linf {spelled(climb.eps)}, {n} images{on}",
        ("carso", "carso, float32"),
        contestants,
        tuple(s for i, o in linears(classifier) for s in ((n, i, o), (n, o, i))) if chain else (),
        float(climb.steps),
        {"carso": product_dtype(images.device), "carso, float32": torch.float32} if chain else {},
        partial(_success, classifier, labels),
        "images misclassified (%)",
        SUCCESS_WITHIN if chain else SUCCESS_OF_FEW,
    )


def deepfool(classifier: nn.Module, images: Images, labels: Labels) -> Work:
    """DeepFool in Linf, 50 linearisations, without a bound on the distance."""
    ours = partial(attacks.deepfool, classifier, images, labels, Budget("Linf", 1.0), steps=50, overshoot=OVERSHOOT)
    contestants: dict[str, Contestant] = {"carso": ours, "carso, autograd": partial(ours, fast=False)} | dict(
        peers.deepfool(classifier, images, labels, 50, OVERSHOOT)
    )
    return Work(
        f"DeepFool Linf, {len(images)} images",
        ("carso",),
        contestants,
        check=partial(_success, classifier, labels),
        figure="images misclassified (%)",
        within=SUCCESS_WITHIN,
    )


def prediction(defence: CARSO, images: Images, limited: bool = True) -> Work:
    """The vote of K candidates: our three stops against the published loop, which decodes one latent after another.

    Args:
        defence: that votes.
        images: (N, C, H, W).
        limited: whether it is held to the machine's limit, by the products of linear layers alone.
    """
    latents, loop = defence.latents(generator=torch.Generator().manual_seed(0)), "loop over the samples"

    def ours(stop: Stop) -> Labels:
        return defence.poll(images, stop=stop, generator=torch.Generator().manual_seed(0)).winners

    contestants: dict[str, Contestant] = {
        "carso, stop never": partial(ours, "never"),
        "carso, stop never, float32": partial(full_in_float32, defence, images, len(latents)),
        "carso, stop exact": partial(ours, "exact"),
        "carso, stop confident": partial(ours, "confident"),
        loop: partial(peers.published_vote, defence, images, latents),
    }
    layers = linears(defence.purifier.decoder)[1:] + linears(defence.classifier) if limited else []
    return Work(
        f"vote of {len(latents)}, {len(images)} images{'' if limited else ', convolutional purifier'}",
        ("carso, stop exact", "carso, stop confident", "carso, stop never"),
        contestants,
        tuple((ROWS, i, o) for i, o in layers),
        len(images) * len(latents) / ROWS,
        {"carso, stop never": product_dtype(images.device), "carso, stop never, float32": torch.float32},
        lambda results: {name: float((winners != results[loop]).sum()) for name, winners in results.items()},  # type: ignore[attr-defined]
        "images answered otherwise than by the loop",
    )


def full_in_float32(defence: CARSO, images: Images, samples: int) -> Labels:
    """As `CARSO.poll` without an early stop, on a processor without bfloat16 units."""
    with full_precision():
        return defence.poll(images, samples, "never", torch.Generator().manual_seed(0)).winners


def images_of_every_row(defence: CARSO, test: Dataset) -> Images:
    """These images under each of the thesis's ten rows, crafted on N."""
    craft = AdversarialExamples(seed=0)
    rows = (craft(row, defence.classifier, test.images, test.required_labels, 0) for row in THESIS)
    return torch.cat(list(rows))


def training(
    classifier: nn.Module,
    train: Dataset,
    held_out: Dataset,
    recipe: ClassifierTraining | None = None,
    climb: Climb = PGD_40,
) -> Work:
    """One epoch of adversarial training, from trained weights: ours against the plain loop.

    Args:
        classifier: from which each epoch goes on.
        train: the images of the epoch.
        held_out: on which the accuracy under `climb` is compared afterwards.
        recipe: by default the thesis's, with the foreseen attacks.
        climb: see `held_out`.
    """
    recipe = recipe or read_recipe("thesis").adversarial
    assert recipe is not None
    schedule = recipe.model_copy(update={"epochs": 1, "rate": RATE})
    contestants: dict[str, Contestant] = {"carso": partial(epoch, classifier, schedule, train, held_out)}
    if find_spec("torchattacks"):
        images, labels = train.images, train.required_labels
        contestants["autograd and torchattacks"] = partial(
            peers.adversarial_training, classifier, images, labels, schedule
        )
    return Work(
        f"adversarial training, an epoch of {len(train)} images",
        ("carso",),
        contestants,
        check=partial(_attacked_accuracy, held_out, climb),
        figure=f"accuracy (%) on held-out images after the epoch, PGD Linf {spelled(climb.eps)}",
        within=SUCCESS_WITHIN,
    )


def epoch(classifier: nn.Module, schedule: ClassifierTraining, train: Dataset, held_out: Dataset) -> nn.Module:
    """One epoch of stage 1, validation included."""
    model = copy.deepcopy(classifier)
    fit(ClassifierStage("bench", model, schedule, train, held_out, torch.device("cpu")), 0, "bench")
    return model


def fresh(_: CARSO, image: Tensor) -> Work:
    """`carso predict` in a process of its own, beside the import of torch alone."""

    def predict() -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "digit.png"
            Image.fromarray((255 * image[0]).byte().numpy()).save(path)
            _python("-m", "carso", "predict", str(path))

    return Work(
        "first prediction in a fresh process",
        ("carso predict",),
        {"carso predict": predict, "import torch": lambda: _python("-c", "import torch")},
    )


def _python(*arguments: str) -> None:
    run([sys.executable, *arguments], check=True, capture_output=True)


@torch.no_grad()
def _success(classifier: nn.Module, labels: Labels, results: Results) -> dict[str, float]:
    return {
        name: 100 * float((classifier(adversarial).argmax(1) != labels).float().mean())
        for name, adversarial in results.items()
    }


def _attacked_accuracy(held_out: Dataset, climb: Climb, results: Results) -> dict[str, float]:
    images, labels, budget = held_out.images, held_out.required_labels, Budget("Linf", climb.eps)
    found = {}
    for name, model in results.items():
        assert isinstance(model, nn.Module)
        generator = torch.Generator().manual_seed(0)
        attacked = attacks.pgd(model, images, labels, budget, steps=climb.steps, alpha=climb.alpha, generator=generator)
        found[name] = 100 - _success(model, labels, {name: attacked})[name]
    return found
