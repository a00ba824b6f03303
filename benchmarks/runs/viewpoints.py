"""What viewpoints bring to `cifar10`, and what its trained purifier brings beside them: each attacked as a whole.

    python benchmarks/runs/viewpoints.py [--images 200] [--steps 30] [--samples 4]

The subjects are N alone, the purifier before it is trained, without viewpoints and with them, and the one that ships,
likewise; the images are held out of training. Writes benchmarks/results/viewpoints.json, which
`python -m benchmarks.docs.results` shows.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from carso import CARSO, Budget, attacks, data, load
from carso.correction import CorrectivePurifier
from carso.data import Dataset
from carso.evaluation.environment import environment
from carso.evaluation.results import Rate
from carso.evaluation.seeding import seeded
from carso.fast import faster
from carso.nn.querying import answers
from carso.progress import track
from carso.storage.files import write_text
from carso.types import Images, Labels

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "viewpoints.json"
BUDGET, SEED = Budget("Linf", 8 / 255), 0


class Followed(nn.Module):
    """What the attack differentiates: log-probabilities averaged over fresh candidates."""

    def __init__(self, defence: CARSO, images: Images, samples: int) -> None:
        super().__init__()
        self.quick, self.samples = faster(defence, images), samples
        self.batch = self.quick.batch

    def forward(self, images: Tensor) -> Tensor:
        return self.quick.surrogate(images, self.samples)


def subjects(shipped: CARSO) -> Iterator[tuple[str, bool, bool, CARSO | None]]:
    """A name, whether trained, whether with viewpoints, and the defence; None for N."""
    yield "N alone", False, False, None
    for trained in (False, True):
        for views in (False, True):
            yield "CARSO", trained, views, variant(shipped, trained, views)


def variant(shipped: CARSO, trained: bool, views: bool) -> CARSO:
    """The shipped defence, or the same before training, with viewpoints or without."""
    purifier = shipped.purifier
    assert isinstance(purifier, CorrectivePurifier)
    seen = purifier.options if views else purifier.options | {"shift": 0, "flip": False}
    with seeded(SEED, "purifier"):
        made = CorrectivePurifier(purifier.shape, latent=purifier.latent, **seen)
    if trained:
        made.load_state_dict(purifier.state_dict())
    return CARSO(shipped.classifier, made.eval(), shipped.representation.layers, samples=shipped.samples)


def answer(classifier: nn.Module, defence: CARSO | None, images: Images) -> Labels:
    """The class of every image, by N or by the vote."""
    return answers(classifier, images.split(100)) if defence is None else defence.predict(images)


def measured(
    classifier: nn.Module, defence: CARSO | None, images: Dataset, given: argparse.Namespace
) -> dict[str, Any]:
    """What is right without attack, and what annealed steps on the margin leave."""
    clean, labels = images.images, images.required_labels
    aim = classifier if defence is None else Followed(defence, clean[:2], given.samples)
    began = time.monotonic()
    with seeded(SEED, "viewpoints"):
        attacked = attacks.annealed(aim, clean, labels, BUDGET, steps=given.steps, loss="margin")
        right = {
            name: answer(classifier, defence, x) == labels for name, x in (("clean", clean), ("attacked", attacked))
        }
    rates = {name: Rate.of(int(each.sum()), len(each)).model_dump() for name, each in right.items()}
    return rates | {"seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--samples", type=int, default=4, help="candidates of a step")
    given = parser.parse_args()
    shipped = load("cifar10")
    held_out = data.load("cifar10", "validation")[: given.images]
    rows = [
        {
            "subject": name,
            "trained": trained,
            "viewpoints": views,
            **measured(shipped.classifier, defence, held_out, given),
        }
        for name, trained, views, defence in track(list(subjects(shipped)), "subjects")
    ]
    found = {"n": len(held_out), "seed": SEED, "eps": BUDGET.eps, **vars(given), "rows": rows}
    write_text(RESULTS, json.dumps(found | {"environment": environment().model_dump()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
