"""Our attacks and other libraries' on the same images, at equal budget and steps: how many each finds, paired.

    python benchmarks/paired_attacks.py mnist-thesis benchmarks/results/paired-attacks [--images 1000] [--rand 0]

The deterministic models are the weights' classifier and undefended network. With `--rand N` AutoAttack's `rand` and our
annealed PGD also attack the whole defence on N images. An image counts as found if the model misclassifies it; for the
whole defence, if at most half of ten fresh votes are right, which is also how AutoAttack's own claims are judged again.
The image and its clean answer are the same for both; images that are wrong when clean are left out of every count.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import foolbox
import torch
import torchattacks
from torch import Tensor, nn

from carso import attacks, data, weights
from carso.attacks.eot import Expectation
from carso.audit.autoattack import autoattack
from carso.audit.subject import load_transfers
from carso.audit.target import target_of
from carso.audit.verdict import Judge
from carso.evaluation.environment import environment
from carso.types import Budget, Images, Labels

EPS, SEED = (0.15, 0.3), 0
PGD_STEPS, APGD_STEPS, EOT, RESTARTS = 40, 100, 4, 4
Contest = tuple[str, str, Callable[[], Tensor], Callable[[], Tensor]]


def contests(model: nn.Module, images: Images, labels: Labels, eps: float) -> Iterator[Contest]:
    """(attack, peer, ours, theirs) on a deterministic model, all with a random start and one run."""
    budget, alpha = Budget("Linf", eps), 2.5 * eps / PGD_STEPS
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1))
    peer = foolbox.attacks.LinfPGD(abs_stepsize=alpha, steps=PGD_STEPS, random_start=True)
    yield (
        "pgd",
        "foolbox",
        lambda: attacks.pgd(model, images, labels, budget, steps=PGD_STEPS, alpha=alpha),
        lambda: peer.run(bounded, images, labels, epsilon=eps),
    )
    for loss, ours in (("ce", "cross_entropy"), ("dlr", "dlr")):
        theirs = torchattacks.APGD(model, eps=eps, steps=APGD_STEPS, n_restarts=1, seed=SEED, loss=loss)
        yield (
            f"apgd-{loss}",
            "torchattacks",
            lambda ours=ours: attacks.apgd(model, images, labels, budget, steps=APGD_STEPS, loss=ours),
            lambda theirs=theirs: theirs(images, labels),
        )


def timed(attack: Callable[[], Tensor], found: Callable[[Tensor], Tensor]) -> tuple[Tensor, float]:
    torch.manual_seed(SEED)
    began = time.perf_counter()
    adversarial = attack()
    return found(adversarial), round(time.perf_counter() - began, 2)


def entry(names: dict[str, object], ours: tuple[Tensor, float], theirs: tuple[Tensor, float]) -> dict[str, object]:
    mine, other = ours[0], theirs[0]
    return names | {
        "n": len(mine),
        "found_ours": int(mine.sum()),
        "found_theirs": int(other.sum()),
        "only_ours": int((mine & ~other).sum()),
        "only_theirs": int((other & ~mine).sum()),
        "seconds_ours": ours[1],
        "seconds_theirs": theirs[1],
    }


def deterministic(name: str, model: nn.Module, images: Images, labels: Labels) -> Iterator[dict[str, object]]:
    with torch.no_grad():
        right = model(images).argmax(1) == labels
    images, labels = images[right], labels[right]

    def found(adversarial: Tensor) -> Tensor:
        with torch.no_grad():
            return model(adversarial).argmax(1) != labels

    for eps in EPS:
        for attack, peer, ours, theirs in contests(model, images, labels, eps):
            names = {"model": name, "eps": eps, "attack": attack, "peer": peer}
            yield entry(names, timed(ours, found), timed(theirs, found))


def whole(defence: nn.Module, images: Images, labels: Labels) -> Iterator[dict[str, object]]:
    """AutoAttack `rand` against annealed PGD with restarts, each judged again by ten fresh votes."""
    target = target_of(defence, images)
    judge = Judge(target)
    torch.manual_seed(SEED)
    right = ~judge.broken(judge.right(images, labels))
    images, labels = images[right], labels[right]
    assert target.candidates is not None
    model, single = Expectation(target.candidates, EOT), Expectation(target.candidates)

    def found(adversarial: Tensor) -> Tensor:
        return judge.broken(judge.right(adversarial, labels))

    for eps in EPS:
        budget = Budget("Linf", eps)

        def ours(budget: Budget = budget) -> Tensor:
            return restarted(model, judge, images, labels, budget)

        claimed: list[int] = []

        def theirs(budget: Budget = budget, claimed: list[int] = claimed) -> Tensor:
            adversarial = autoattack(single, images, labels, budget, version="rand")
            claimed.append(int((adversarial != images).flatten(1).any(1).sum()))
            return adversarial

        names = {"model": "whole defence", "eps": eps, "attack": "annealed", "peer": "pyautoattack rand"}
        result = entry(names, timed(ours, found), timed(theirs, found))
        yield result | {"claimed_theirs": claimed[0]}


def restarted(model: Expectation, judge: Judge, images: Images, labels: Labels, budget: Budget) -> Tensor:
    """Annealed PGD on the margin, run again where fresh votes are still right."""
    best, left = images.clone(), torch.arange(len(images))
    for _ in range(RESTARTS):
        best[left] = attacks.annealed(model, images[left], labels[left], budget, steps=APGD_STEPS, loss="margin")
        left = left[~judge.broken(judge.right(best[left], labels[left]))]
        if not len(left):
            break
    return best


def main(name: str, out: Path, n: int, rand: int) -> None:
    defence, test = weights.load(name), data.load("mnist", "test")
    models = {"classifier": defence.classifier} | load_transfers(name, "mnist", ())
    entries = []
    images, labels = test.images, test.required_labels
    streams = [deterministic(label, model, images[:n], labels[:n]) for label, model in models.items() if n]
    if rand:
        streams.append(whole(defence, images[:rand], labels[:rand]))
    out.mkdir(parents=True, exist_ok=True)
    for stream in streams:
        for one in stream:
            entries.append(one)
            print(one, flush=True)
            table = {"weights": name, "seed": SEED, "environment": environment().model_dump(), "entries": entries}
            (out / "paired.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rand", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.weights, arguments.out, arguments.images, arguments.rand)
