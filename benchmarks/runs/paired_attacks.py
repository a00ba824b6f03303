"""Our attacks and other libraries' on the same images, at equal budget and steps: how many each finds, paired.

    python -m benchmarks.runs.paired_attacks mnist-thesis benchmarks/results/paired/classifier.json
    python -m benchmarks.runs.paired_attacks mnist-thesis benchmarks/results/paired/cnn.json --stranger weights.pt
    python -m benchmarks.runs.paired_attacks mnist-thesis benchmarks/results/paired/defence.json --images 100 --whole

Deterministic models: PGD against foolbox's, Auto-PGD against torchattacks', one run from a random start, several seeds;
ours by the readable loop (`plain`) and, where the model folds, by the folded one (`fast`). The whole defence: our
annealed PGD against AutoAttack's `rand`. An image counts as found if the model misclassifies it; for the whole defence,
if at most half of ten fresh votes are right. Images that are wrong when clean are left out of every count.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import foolbox
import torch
import torchattacks
from benchmarks.own.strangers import public
from torch import Tensor, nn

from carso import CARSO, attacks, data
from carso.attacks.eot import Expectation
from carso.audit.autoattack import autoattack
from carso.audit.target import target_of
from carso.audit.verdict import Judge
from carso.evaluation.environment import environment
from carso.fast import faster
from carso.storage import weights
from carso.types import Budget, Images, Labels

PGD_STEPS, APGD_STEPS, EOT, RESTARTS = 40, 100, 4, 4
Attack = Callable[[], Tensor]
Contest = tuple[str, str, Attack, str, Attack]
Row = dict[str, Any]


def contests(model: nn.Module, images: Images, labels: Labels, eps: float, seed: int, slow: bool) -> Iterator[Contest]:
    """(attack, path, ours, peer, theirs) on a deterministic model."""
    budget, alpha = Budget("Linf", eps), 2.5 * eps / PGD_STEPS
    peer = foolbox.attacks.LinfPGD(abs_stepsize=alpha, steps=PGD_STEPS, random_start=True)
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1))
    theirs: Attack = partial(lambda: peer.run(bounded, images, labels, epsilon=eps))
    for path, fast in (("plain", False), ("fast", True)):
        if fast and faster(model, images) is model:
            continue
        ours: Attack = partial(attacks.pgd, model, images, labels, budget, steps=PGD_STEPS, alpha=alpha, fast=fast)
        yield "pgd", path, ours, "foolbox", theirs
    for short, loss in (("ce", "cross_entropy"), ("dlr", "dlr")) if slow else ():
        apgd = torchattacks.APGD(model, eps=eps, steps=APGD_STEPS, n_restarts=1, seed=seed, loss=short)
        ours = partial(attacks.apgd, model, images, labels, budget, steps=APGD_STEPS, loss=loss)
        yield f"apgd-{short}", "plain", ours, "torchattacks", partial(apgd, images, labels)


def timed(attack: Attack, found: Callable[[Tensor], Tensor], seed: int) -> tuple[Tensor, float]:
    """Which images an attack found, and its seconds of processor time."""
    torch.manual_seed(seed)
    began = time.process_time()
    adversarial = attack()
    seconds = round(time.process_time() - began, 2)
    return found(adversarial), seconds


def row(names: Row, ours: tuple[Tensor, float], theirs: tuple[Tensor, float]) -> Row:
    """Both counts, and where they differ."""
    mine, other = ours[0], theirs[0]
    return names | {
        "n": len(mine),
        "found_ours": int(mine.sum()),
        "found_theirs": int(other.sum()),
        "only_ours": int((mine & ~other).sum()),
        "only_theirs": int((other & ~mine).sum()),
        "cpu_seconds_ours": ours[1],
        "cpu_seconds_theirs": theirs[1],
    }


def deterministic(model: nn.Module, images: Images, labels: Labels, eps: float, seeds: int, slow: int) -> Iterator[Row]:
    """Every contest from every seed; Auto-PGD's from the first `slow` ones."""
    with torch.no_grad():
        right = model(images).argmax(1) == labels
    images, labels = images[right], labels[right]

    def found(adversarial: Tensor) -> Tensor:
        with torch.no_grad():
            wrong: Tensor = model(adversarial).argmax(1) != labels
        return wrong

    for seed in range(seeds):
        for attack, path, ours, peer, theirs in contests(model, images, labels, eps, seed, seed < slow):
            names = {"eps": eps, "seed": seed, "attack": attack, "path": path, "peer": peer}
            yield row(names, timed(ours, found, seed), timed(theirs, found, seed))


def whole(defence: CARSO, images: Images, labels: Labels, eps: float, seed: int = 0) -> Iterator[Row]:
    """Annealed PGD with restarts against AutoAttack `rand`, each judged again by ten fresh votes."""
    target = target_of(defence, images)
    judge, budget = Judge(target), Budget("Linf", eps)
    torch.manual_seed(seed)
    right = ~judge.broken(judge.right(images, labels))
    images, labels = images[right], labels[right]
    assert target.candidates is not None
    model, single = Expectation(target.candidates, EOT), Expectation(target.candidates)

    def found(adversarial: Tensor) -> Tensor:
        return judge.broken(judge.right(adversarial, labels))

    claimed: list[int] = []

    def theirs() -> Tensor:
        adversarial = autoattack(single, images, labels, budget, version="rand")
        claimed.append(int((adversarial != images).flatten(1).any(1).sum()))
        return adversarial

    names = {"eps": eps, "seed": seed, "attack": "annealed", "path": "plain", "peer": "pyautoattack rand"}
    ours = partial(restarted, model, judge, images, labels, budget)
    result = row(names, timed(ours, found, seed), timed(theirs, found, seed))
    yield result | {"claimed_theirs": claimed[0]}


def restarted(model: Expectation, judge: Judge, images: Images, labels: Labels, budget: Budget) -> Tensor:
    """Annealed PGD, run again where fresh votes are still right."""
    best, left = images.clone(), torch.arange(len(images))
    for _ in range(RESTARTS):
        best[left] = attacks.annealed(model, images[left], labels[left], budget, steps=APGD_STEPS)
        left = left[~judge.broken(judge.screened(best[left], labels[left]))]
        if not len(left):
            break
    return best


def main(arguments: argparse.Namespace) -> None:
    """Run the contests, and keep the table after each."""
    defence, test = weights.load(arguments.weights), data.load("mnist", "test")
    images, labels = test.images[: arguments.images], test.required_labels[: arguments.images]
    model = public(arguments.stranger) if arguments.stranger else defence.classifier
    entries = []
    for eps in arguments.eps:
        if arguments.whole:
            stream = whole(defence, images, labels, eps)
        else:
            stream = deterministic(model, images, labels, eps, arguments.seeds, arguments.slow)
        for one in stream:
            entries.append(one)
            print(one, flush=True)
            name = "whole defence" if arguments.whole else type(model).__name__
            table = {"weights": arguments.weights, "model": name, "environment": environment().model_dump()}
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(table | {"entries": entries}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("out", type=Path)
    parser.add_argument("--eps", type=float, nargs="+", default=[0.15, 0.3])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5, help="of PGD")
    parser.add_argument("--slow", type=int, default=2, help="seeds of Auto-PGD")
    parser.add_argument("--stranger", type=Path, help="weights of the TRADES CNN, attacked instead of the classifier")
    parser.add_argument("--whole", action="store_true", help="attack the whole defence instead")
    main(parser.parse_args())
