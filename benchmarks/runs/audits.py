"""Audit a defence beside its bare classifier, and beside what a reviewer asks for, on the same images.

python benchmarks/runs/audits.py mnist-thesis quick benchmarks/results/thesis-audit
python benchmarks/runs/audits.py mnist-strong standard benchmarks/results/strong-audit --control out/control
python benchmarks/runs/audits.py mnist-strong standard benchmarks/results/strong-L2-audit --norm L2 --eps 1 1.5 2

Subjects: `adversarially_trained`, N alone; `carso`; `fixed`, the same defence with four latents that the attacker
knows, drawn once; `control`, a classifier trained by another recipe; `control-in-float32`, the same unrounded.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Generator, Tensor, nn

from carso import data
from carso.attacks.eot import mean_log_probability
from carso.audit import audit
from carso.audit.effort import Effort
from carso.audit.loading import load_target, load_transfers
from carso.defence import CARSO
from carso.fast import faster, reduced
from carso.storage import weights
from carso.vote import count

LATENTS, SEED = 4, 0
DEFAULTS = {"Linf": (0.15, 0.3), "L2": (1.0, 1.5, 2.0)}


class Fixed(nn.Module):
    """A defence whose few latents never change: nothing about it is random, and its attacker knows them."""

    latents: Tensor

    def __init__(self, defence: CARSO) -> None:
        super().__init__()
        self.defence = defence
        self.register_buffer("latents", defence.latents(LATENTS, Generator().manual_seed(SEED)))
        self.quick = faster(defence, torch.rand(2, *defence.purifier.shape))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Shares of the votes (B, classes) of the few candidates; a tie goes to the larger mean probability."""
        logits = self.defence.logits(images, latents=self.latents)
        return count(logits) / LATENTS + 0.5 * logits.softmax(2).mean(1) / LATENTS

    def surrogate(self, images: Tensor) -> Tensor:
        """Log-probabilities (B, classes), averaged over the candidates, differentiable."""
        return mean_log_probability(self.quick.logits(images, latents=self.latents))

    def exact(self, images: Tensor) -> Tensor:
        """The same, unrounded."""
        return mean_log_probability(self.defence.logits(images, latents=self.latents))


class Rounded(nn.Module):
    """A classifier whose attacker differentiates it in the products of the processor, as those of a defence do."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.exact = classifier
        self.surrogate = reduced(classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Its own logits (B, classes)."""
        logits: Tensor = self.exact(images)
        return logits


def subjects(defence: CARSO, control: Path | None, only: list[str]) -> dict[str, Any]:
    """By name; those that were not asked for by name are made only if they are among the usual ones."""
    makers: dict[str, Callable[[], Any]] = {
        "adversarially_trained": lambda: defence.classifier,
        "carso": lambda: defence,
        "fixed": lambda: Fixed(defence),
    }
    usual = ["adversarially_trained", "carso"]
    if control is not None:
        makers["control"] = lambda: Rounded(load_target(f"{control}/classifier"))
        makers["control-in-float32"] = lambda: load_target(f"{control}/classifier")
        usual.append("control")
    return {name: makers[name]() for name in only or usual}


def main(given: argparse.Namespace) -> None:
    defence, test = weights.load(given.name), data.load("mnist", "test")
    transfer = load_transfers(given.name, "mnist", ())
    for label, subject in subjects(defence, given.control, given.only).items():
        found = audit(
            subject,
            test,
            effort=given.effort,
            eps=tuple(given.eps or DEFAULTS[given.norm]),
            norm=given.norm,
            n=given.images,
            transfer=transfer,
            name=label,
            out=given.out / label,
        )
        for budget in found.budgets:
            raised = [check.name for check in found.raised]
            print(label, budget.title, budget.clean.accuracy, budget.worst_case.accuracy, raised, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a shipped defence or a folder")
    parser.add_argument("effort", choices=get_args(Effort))
    parser.add_argument("out", type=Path)
    parser.add_argument("--norm", choices=list(DEFAULTS), default="Linf")
    parser.add_argument("--eps", type=float, nargs="+")
    parser.add_argument("--images", type=int)
    parser.add_argument("--control", type=Path, help="folder of a trained recipe whose classifier stands beside")
    parser.add_argument("--only", nargs="+", default=[], help="which subjects")
    main(parser.parse_args())
