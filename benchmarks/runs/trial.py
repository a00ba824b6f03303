"""One candidate on held-out training images: what a short attack on the whole of it leaves, added to the log of trials.

    python benchmarks/runs/trial.py DEFENCE "what was tried" [--images 1000] [--classifier]

The battery: annealed PGD, 100 steps, cross-entropy and margin, Linf 0.15 and 0.30; margin in L2 1.0, 1.5 and 2.0. An
image counts as lost if the vote of 15 fresh candidates on any attacked version is wrong. It is for choices between
candidates, is weaker than an audit, and never sees a test image. `benchmarks/docs/experiments.py` tells the log.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

import carso
from carso import attacks, data
from carso.defence import CARSO
from carso.fast import faster
from carso.types import Budget, Classifier

LOG = Path(__file__).parents[1] / "results" / "trials" / "trials.json"
BATTERY = {
    "Linf 0.15": (Budget("Linf", 0.15), ("cross_entropy", "margin")),
    "Linf 0.30": (Budget("Linf", 0.30), ("cross_entropy", "margin")),
    "L2 1.0": (Budget("L2", 1.0), ("margin",)),
    "L2 1.5": (Budget("L2", 1.5), ("margin",)),
    "L2 2.0": (Budget("L2", 2.0), ("margin",)),
}


def attackable(defence: CARSO) -> Classifier:
    quick = faster(defence, torch.rand(2, *defence.purifier.shape))

    def one_each(images: Tensor) -> Tensor:
        return quick.logits(images, latents=torch.randn(len(images), 1, defence.purifier.latent)).squeeze(1)

    return one_each


def figures(defence: CARSO, images: Tensor, labels: Tensor, bare: bool) -> dict[str, float]:
    model = defence.classifier if bare else attackable(defence)

    def right(some: Tensor) -> Tensor:
        with torch.no_grad():
            answers = defence.classifier(some).argmax(1) if bare else defence.poll(some, 15, "never").winners
        return answers == labels

    clean, found = right(images), {}
    found["clean"] = 100 * clean.float().mean().item()
    for name, (budget, losses) in BATTERY.items():
        kept = clean.clone()
        for loss in losses:
            kept &= right(attacks.annealed(model, images, labels, budget, steps=100, loss=loss))
        found[name] = 100 * kept.float().mean().item()
    return {name: round(figure, 1) for name, figure in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("defence")
    parser.add_argument("tried")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--classifier", action="store_true", help="the bare classifier")
    given = parser.parse_args()
    torch.manual_seed(0)
    held_out = data.load("mnist", "validation")
    images, labels = held_out.images[: given.images], held_out.required_labels[: given.images]
    entry = {"tried": given.tried, "target": "N alone" if given.classifier else "CARSO", "n": given.images}
    entry["left"] = figures(carso.load(given.defence), images, labels, given.classifier)
    log = json.loads(LOG.read_text(encoding="utf-8")) if LOG.exists() else []
    LOG.write_text(json.dumps([*log, entry], indent=1) + "\n", encoding="utf-8")
    print(entry)
