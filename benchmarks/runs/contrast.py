"""Classifiers behind contrast, and whether passing the gradient by misleads an attacker of them.

    y(x) = clamp((x - eps) / (1 - 2 eps), 0, 1)    monotone, so that |x' - x| <= eps is lo <= y' <= hi, pixel by pixel:
    lo = y(max(x - eps, 0)),  hi = y(min(x + eps, 1))

An attack within that box, on what lies behind y, meets every image that the attacker could reach and no clamp: its
gradient is exact. If it leaves as many as the same attack on the images, the passed gradient misled nobody.

    carso audit benchmarks.runs.contrast:thesis --data mnist --eps 0.15 0.3 --images 2000
    python -m benchmarks.runs.contrast out/robust-mlp-contrast [--images 2000]
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.own import strangers
from torch import Tensor, nn

import carso
from carso import data
from carso.attacks.losses import margin
from carso.evaluation.results import Rate
from carso.nn import Contrast
from carso.progress import track
from carso.storage.files import write_text
from carso.storage.weights import load_classifier

EPS, STEPS, RESTARTS, LARGEST, LEAST = 0.3, 100, 3, 2.0, 0.01
RESULT = Path(__file__).parents[1] / "results" / "ladder" / "exact.json"


def thesis() -> nn.Module:
    """The N that ships for the thesis's table."""
    return nn.Sequential(Contrast(EPS), carso.load("mnist-thesis").classifier)


def public() -> nn.Module:
    """The robust convolutional network that others trained."""
    return nn.Sequential(Contrast(EPS), strangers.public())


def attacked(model: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, labels: Tensor, seed: int) -> Tensor:
    """Which images (B,) an ascent of the margin within a box finds, by signs, in steps that shrink with the box."""
    at = low + (high - low) * torch.rand(low.shape, generator=torch.Generator().manual_seed(seed))
    found = torch.zeros(len(low), dtype=torch.bool)
    for step in range(STEPS):
        at.requires_grad_()
        lost = margin(model(at), labels)
        found |= lost.detach() > 0
        (slope,) = torch.autograd.grad(lost.sum(), at)
        size = LARGEST / 2 * (LEAST / LARGEST) ** (step / STEPS)
        at = (at.detach() + size * (high - low) * slope.sign()).clamp(low, high)
    return found | (margin(model(at), labels) > 0)


def compared(whole: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """What the same attack leaves on the images, its gradient passed by, and in the box behind contrast, exact."""
    contrast, *rest = whole.children()
    behind = nn.Sequential(*rest).eval()
    assert isinstance(contrast, Contrast)
    low, high = (images - EPS).clamp(min=0), (images + EPS).clamp(max=1)
    boxes: dict[str, tuple[nn.Module, Tensor, Tensor]] = {
        "passed": (whole, low, high),
        "exact": (behind, contrast(low), contrast(high)),
    }
    with torch.no_grad():
        wrong = whole(images).argmax(1) != labels
    found = {name: wrong.clone() for name in boxes}
    for name, (model, least, most) in boxes.items():
        for seed in track(range(RESTARTS), f"attack, gradient {name}"):
            found[name] |= attacked(model, least, most, labels, seed)
    rates = {name: Rate.of(int((~each).sum()), len(each)).model_dump() for name, each in found.items()}
    return (
        rates
        | {"only_passed": int((found["passed"] & ~found["exact"]).sum())}
        | {"only_exact": int((found["exact"] & ~found["passed"]).sum())}
    )


def main(folder: Path, n: int) -> None:
    test = data.load("mnist", "test")[:n]
    subjects = {"thesis": thesis(), "robust-mlp-contrast": load_classifier(folder / "classifier.safetensors")}
    rows = []
    for name, model in subjects.items():
        for parameter in model.eval().parameters():
            parameter.requires_grad_(False)
        rows.append({"subject": name} | compared(model, test.images, test.required_labels))
        print(json.dumps(rows[-1]))
    about = {"n": n, "eps": EPS, "steps": STEPS, "restarts": RESTARTS}
    write_text(RESULT, json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    given = parser.parse_args()
    main(given.folder, given.images)
