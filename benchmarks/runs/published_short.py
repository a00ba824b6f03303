"""Recipe `cifar10-published`, shorter: fewer images, epochs and steps of PGD; around the N that ships with `cifar10`.

    python -m benchmarks.runs.published_short out/cifar10-published --images 8000 --epochs 30 --steps 10

A step of the published purifier's training takes seconds where there are no bfloat16 units, and there are some 35,000
of them. What was made shorter is left in `training.json` beside the weights. Broken off, it goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from carso import data
from carso.storage import weights
from carso.storage.files import copy, write_text
from carso.training.experiment import Experiment
from carso.training.plan import announce
from carso.training.reading import read_recipe
from carso.training.recipe import Recipe

TRAINING = "training.json"


def shortened(epochs: int, steps: int) -> Recipe:
    """The recipe with so many epochs and PGD of so many steps."""
    told = read_recipe("cifar10-published").model_dump(mode="json")
    told["purification"]["epochs"] = epochs
    for attack in told["purification"]["attacks"]:
        attack["steps"] = steps if attack["attack"] == "pgd" else attack["steps"]
    return Recipe.model_validate(told, strict=False)


def main(given: argparse.Namespace) -> None:
    """N copied, the purifier trained."""
    train, held_out = data.load("cifar10", "train"), data.load("cifar10", "validation")
    sets = (train[: given.images], held_out[: given.held_out])
    experiment = Experiment(shortened(given.epochs, given.steps), given.out, torch.device("cpu"), sets=sets)
    experiment.open()
    copy(weights.find("cifar10") / weights.CLASSIFIER, given.out / weights.CLASSIFIER)
    about = {"images": len(sets[0]), "epochs": given.epochs, "steps": given.steps}
    write_text(given.out / TRAINING, json.dumps(about) + "\n")
    announce(experiment.pending())
    experiment.train_purifier()


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("out", type=Path)
    options.add_argument("--images", type=int, default=8000, help="training images, from the first")
    options.add_argument("--held-out", type=int, default=500, help="images that the loss is followed on")
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--steps", type=int, default=10, help="of PGD")
    return options


if __name__ == "__main__":
    main(parser().parse_args())
