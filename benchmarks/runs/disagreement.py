"""N and the vote as each other's witnesses: attacked images on which they agree and are right, disagree, or err alike.

    flagged      the vote's class is not N's own on the same image
    unnoticed    both give the same wrong class: what somebody who turns flagged images away still gets wrong

    python benchmarks/runs/disagreement.py mnist-strong benchmarks/results/disagreement/strong.json --images 1000

Attackers: none; those of the thesis, on N alone; one who differentiates the whole defence; one who knows that N is
asked too and climbs the loss of both at once, towards each of N's nearest rivals as well. Where an attacker has several
runs, the worst outcome of an image counts. Test images; an outcome is the median of five full votes, fresh each time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from carso import CARSO, attacks, data
from carso.audit.target import target_of
from carso.evaluation.environment import environment
from carso.evaluation.results import Rate
from carso.storage import weights
from carso.types import Budget, Classifier, Images, Labels

STEPS, RESTARTS, RIVALS, VOTES = 100, 4, 3, 5
RIGHT, FLAGGED, UNNOTICED = range(3)
Run = Callable[[], Images]


def attackers(defence: CARSO, images: Images, labels: Labels) -> Iterator[tuple[str, float, list[Run]]]:
    """(attacker, eps, runs)."""
    n, whole = defence.classifier, target_of(defence, images).scores

    def both(images: Images) -> Tensor:
        return n(images).log_softmax(1) + whole(images)

    yield "none", 0.0, [lambda: images]
    for eps in (0.15, 0.3, 0.5):
        yield "FGSM on N", eps, [partial(attacks.fgsm, n, images, labels, Budget("Linf", eps))]
        pgd = partial(attacks.pgd, n, images, labels, Budget("Linf", eps), steps=40, alpha=0.01)
        yield "PGD on N", eps, [pgd]
    for eps in (0.15, 0.3):
        yield "end to end, on the vote", eps, untargeted(whole, images, labels, eps)
        runs = untargeted(both, images, labels, eps) + targeted(both, n, images, labels, eps)
        yield "end to end, on the vote and N", eps, runs


def untargeted(model: Classifier, images: Images, labels: Labels, eps: float) -> list[Run]:
    run = partial(attacks.annealed, model, images, labels, Budget("Linf", eps), steps=STEPS)
    return [partial(run, loss=loss) for loss in ("cross_entropy", "margin")] * RESTARTS


def targeted(model: Classifier, n: Classifier, images: Images, labels: Labels, eps: float) -> list[Run]:
    with torch.no_grad():
        rivals = n(images).scatter(1, labels[:, None], -torch.inf).topk(RIVALS, dim=1).indices
    run = partial(attacks.annealed, model, images, budget=Budget("Linf", eps), steps=STEPS, targeted=True)
    return [partial(run, labels=rival, loss="margin") for rival in rivals.T]


def outcomes(defence: CARSO, images: Images, labels: Labels) -> Tensor:
    """(B,): RIGHT, FLAGGED or UNNOTICED."""
    with torch.no_grad():
        voted, own = torch.stack([defence.predict(images) for _ in range(VOTES)]), defence.classifier(images).argmax(1)
    same = torch.where(voted == labels, RIGHT, UNNOTICED)
    return torch.where(voted == own, same, FLAGGED).median(0).values


def main(given: argparse.Namespace) -> None:
    defence, test = weights.load(given.weights), data.load("mnist", "test")
    images, labels = test.images[: given.images], test.required_labels[: given.images]
    entries = []
    for attacker, eps, runs in attackers(defence, images, labels):
        torch.manual_seed(0)
        worst = torch.stack([outcomes(defence, run(), labels) for run in runs]).amax(0)
        names = {"right": RIGHT, "flagged": FLAGGED, "unnoticed": UNNOTICED}
        rates = {name: Rate.of(int((worst == code).sum()), len(worst)).model_dump() for name, code in names.items()}
        entries.append({"attacker": attacker, "eps": eps, "runs": len(runs)} | rates)
        print(attacker, eps, {name: rate["accuracy"] for name, rate in rates.items()}, flush=True)
    table = {"weights": given.weights, "n": len(images), "environment": environment().model_dump(), "entries": entries}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    main(parser.parse_args())
