"""What a hardened purifier's gain is made of: its parts, each attacked as a whole by the same attack.

    python -m benchmarks.runs.mechanism mnist-strong --out out/mechanism.json [--images 1000]

    N          the classifier on the image itself
    code       a linear classifier of the code c = R(r(x)), trained on clean images: what R knows without any image
    drilled    the same, trained on clean images and as many that were attacked, by the same attack on the vote
    zero       N on the one image that z = 0 recalls
    vote       N on what fresh z recall, 15 votes: the defence
    least      the image counts as right only if N is right on each of 64 recalled images: what an attacker who could
               choose z would leave
    handed     the code's classifier on images that were made against the vote

Annealed PGD of 100 steps, cross-entropy and margin, twice each; an image is lost if any run finds it. Test images,
Linf. The bar of a part is its worst case; the figures are no audit, and stand beside each other alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import carso
from carso import CARSO, attacks, data
from carso.data import Dataset
from carso.evaluation.environment import environment
from carso.evaluation.results import Rate
from carso.fast import faster
from carso.progress import track
from carso.storage.files import write_text
from carso.types import Budget, Classifier, Images, Labels

EPS, STEPS, REPEATS, VOTES, LEAST = (0.15, 0.3), 100, 2, 15, 64
LOSSES = ("cross_entropy", "margin")
CHUNK, EPOCHS, BATCH, RATE = 500, 20, 512, 0.01
DRILL, DRILL_STEPS = 10_000, 20
Right = Callable[[Images, Labels], Tensor]


@dataclass(frozen=True)
class Part:
    """What is attacked, and when an image of it counts as right: (B,) of images and labels."""

    attackable: Classifier
    right: Right


def probe_of(defence: CARSO, images: Images, labels: Labels) -> nn.Linear:
    """A linear classifier of the codes of training images, by cross-entropy."""
    with torch.no_grad():
        codes = torch.cat([defence.codes(some) for some in images.split(CHUNK)])
    torch.manual_seed(0)
    probe = nn.Linear(codes.shape[1], defence.classes)
    optimiser = torch.optim.Adam(probe.parameters(), RATE)
    for _ in track(range(EPOCHS), "probe of the code"):
        for rows in torch.randperm(len(codes)).split(BATCH):
            optimiser.zero_grad()
            F.cross_entropy(probe(codes[rows]), labels[rows]).backward()
            optimiser.step()
    return probe.requires_grad_(False)


def drill(part: Part, images: Images, labels: Labels) -> Images:
    """Training images attacked at the largest radius."""
    spans = track(list(zip(images.split(CHUNK), labels.split(CHUNK), strict=True)), "attacks on training images")
    budget = Budget("Linf", max(EPS))
    return torch.cat(
        [attacks.annealed(part.attackable, *span, budget, steps=DRILL_STEPS, loss="margin") for span in spans]
    )


def parts_of(defence: CARSO, train: Dataset) -> dict[str, Part]:
    """Every part of the defence that answers by itself."""
    images, labels = train.images, train.required_labels
    quick, latent = faster(defence, images[:64]), defence.purifier.latent

    def plain(model: Classifier) -> Part:
        return Part(model, lambda images, labels: model(images).argmax(1) == labels)

    def candidates(images: Images) -> Tensor:
        latents = torch.randn(len(images), 1, latent)
        return quick.logits(images, latents=latents).squeeze(1)

    def voted(images: Images, labels: Labels) -> Tensor:
        return defence.poll(images, VOTES, "never").winners == labels

    def each(images: Images, labels: Labels) -> Tensor:
        counts = defence.poll(images, LEAST, "never").counts
        return counts.gather(1, labels[:, None]).squeeze(1) == LEAST

    code, some = probe_of(defence, images, labels), slice(DRILL)
    hard = drill(Part(candidates, voted), images[some], labels[some])
    drilled = probe_of(defence, torch.cat([images[some], hard]), labels[some].repeat(2))
    return {
        "N": plain(defence.classifier),
        "code": plain(lambda images: code(defence.codes(images))),
        "drilled": plain(lambda images: drilled(defence.codes(images))),
        "zero": plain(lambda images: quick.logits(images, latents=torch.zeros(1, latent)).squeeze(1)),
        "vote": Part(candidates, voted),
        "least": Part(candidates, each),
    }


def attacked(part: Part, images: Images, labels: Labels, eps: float) -> list[Images]:
    """The images that every run makes."""
    return [
        attacks.annealed(part.attackable, images, labels, Budget("Linf", eps), steps=STEPS, loss=loss)
        for loss in LOSSES
        for _ in range(REPEATS)
    ]


def kept(rights: Right, clean: Tensor, tried: list[Images], labels: Labels) -> Tensor:
    """Which images (B,) are right clean and in every version."""
    with torch.no_grad():
        return torch.stack([clean, *(rights(each, labels) for each in tried)]).all(0)


def outcomes(parts: dict[str, Part], images: Images, labels: Labels) -> dict[tuple[str, float], Tensor]:
    """Right or not (B,), by part and radius, 0 for clean images."""
    found: dict[tuple[str, float], Tensor] = {}
    with torch.no_grad():
        for name, part in parts.items():
            found[name, 0.0] = part.right(images, labels)
    for eps in EPS:
        for name in ("N", "code", "drilled", "zero"):
            tried = attacked(parts[name], images, labels, eps)
            found[name, eps] = kept(parts[name].right, found[name, 0.0], tried, labels)
        tried = attacked(parts["vote"], images, labels, eps)
        for name in ("vote", "least"):
            found[name, eps] = kept(parts[name].right, found[name, 0.0], tried, labels)
        found["handed", eps] = kept(parts["code"].right, found["code", 0.0], tried, labels)
    return found


def measured(defence: CARSO, n: int) -> list[dict[str, object]]:
    """Every part's rate at every radius."""
    train, test = data.load("mnist", "train"), data.load("mnist", "test")[:n]
    images, labels = test.images, test.required_labels
    torch.manual_seed(0)
    parts = parts_of(defence, train)
    spans = track(list(zip(images.split(CHUNK), labels.split(CHUNK), strict=True)), "attacks on every part")
    chunks = [outcomes(parts, *span) for span in spans]
    joined = {key: torch.cat([chunk[key] for chunk in chunks]) for key in chunks[0]}
    return [
        {"part": name, "eps": eps} | Rate.of(int(right.sum()), len(right)).model_dump()
        for (name, eps), right in joined.items()
    ]


def main(given: argparse.Namespace) -> None:
    defence = carso.load(given.defence)
    rows = measured(defence, given.images)
    about = {"defence": given.name or given.defence, "n": given.images, "seed": 0, "steps": STEPS, "repeats": REPEATS}
    about |= {"votes": VOTES, "least": LEAST, "environment": environment().model_dump()}
    write_text(given.out, json.dumps(about | {"rows": rows}, indent=1) + "\n")
    for row in rows:
        print(f"{row['part']:>7} {row['eps']:4.2f} {row['accuracy']:6.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("defence")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--name", help="What the page calls it.")
    parser.add_argument("--out", type=Path, required=True)
    main(parser.parse_args())
