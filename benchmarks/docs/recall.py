"""Draw docs/recall.png and docs/recall-photographs.png: test images, attacks on them, and what a defence recalls.

They are the first six of the images under attack (PGD, 40 steps; Linf 0.30 on digits, 8/255 on photographs) on which N
alone is wrong, whatever CARSO says. Below them stands of how many, and how many each has right of all.

    python -m benchmarks.docs.recall [mnist] [cifar10]
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import carso
from carso import CARSO, Budget
from carso.types import Images, Labels

ROOT = Path(__file__).parents[2]
CELL, GAP, MARGIN, SHOWN, ROWS, LINE, WORDS = 72, 8, 34, 7, 6, 19, 250
COLOURS = {True: "#00695c", False: "#b00020"}
PICTURES = {
    "mnist": ("recall.png", 0.3, 0.01, 300),
    "cifar10": ("recall-photographs.png", 8 / 255, 2 / 255, 60),
}
"""By data set: file, radius, step, and how many images are attacked together."""


@dataclass(frozen=True)
class Outcome:
    """What N alone and the defence say of images under attack.

    Attributes:
        images, attacked: (B, C, H, W).
        labels, alone, elected: (B,) true classes, and those of N and of the defence.
        shares: (B, classes) of the votes.
        clean: how many of the images, not attacked, N has right.
    """

    images: Images
    attacked: Images
    labels: Labels
    alone: Labels
    elected: Labels
    shares: Tensor
    clean: int

    @property
    def wrong(self) -> list[int]:
        """On which N alone is wrong."""
        found: list[int] = (self.alone != self.labels).nonzero()[:, 0].tolist()
        return found


def draw(name: str) -> None:
    file, eps, alpha, count = PICTURES[name]
    defence, test = carso.load(name), carso.data.load(name, "test")[:count]
    generator = torch.Generator().manual_seed(0)
    found = outcome(defence, test.images, test.required_labels, Budget("Linf", eps), alpha, generator)
    rows = found.wrong[:ROWS]
    recalled = defence.recall(found.attacked[rows], samples=SHOWN, generator=generator)
    names = defence.class_names or tuple(map(str, range(defence.classes)))
    picture = sheet(found, rows, recalled, names, footer(found, radius(eps)))
    picture.save(ROOT / "docs" / file, optimize=True)


def outcome(
    defence: CARSO, images: Images, labels: Labels, budget: Budget, alpha: float, generator: torch.Generator
) -> Outcome:
    """PGD on N alone, and what N and the defence say of what it made."""
    attacked = carso.attacks.pgd(defence.classifier, images, labels, budget, alpha=alpha, generator=generator)
    with torch.no_grad():
        alone, clean = defence.classifier(attacked).argmax(1), defence.classifier(images).argmax(1)
    tally = defence.poll(attacked, stop="never", generator=generator)
    right = int((clean == labels).sum())
    return Outcome(images, attacked, labels, alone, tally.winners, tally.shares, right)


def radius(eps: float) -> str:
    """A radius, as a fraction of 255 where it is a whole one below 0.1."""
    return f"{255 * eps:.0f}/255" if eps < 0.1 else f"{eps:.2f}"


def footer(found: Outcome, eps: str) -> list[str]:
    """How the images were chosen, and what holds of all."""
    n, wrong = len(found.labels), len(found.wrong)
    carso_right = int((found.elected == found.labels).sum())
    rows = min(ROWS, wrong)
    return [
        f"Chosen because N alone is wrong on them: the first {rows} of {wrong} such images among the first {n} of the "
        f"test set, under PGD at Linf {eps}.",
        f"Right of these {n}: N {found.clean} without attack; under it N {n - wrong}, CARSO {carso_right}. "
        "The attack knows N, not the purifier.",
    ]


def sheet(found: Outcome, rows: list[int], recalled: Tensor, names: Sequence[str], below: Sequence[str]) -> Image.Image:
    """A row per image: clean, attacked, recalled, and who says what."""
    left = MARGIN + (SHOWN + 2) * (CELL + GAP) + 6
    height = MARGIN + len(rows) * (CELL + GAP) + LINE * len(below) + MARGIN // 2
    picture = Image.new("RGB", (left + WORDS, height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for column, title in ((0, "clean"), (1, "attacked"), (2, "recalled from the attacked image")):
        pen.text((MARGIN + column * (CELL + GAP), 12), title, fill="#555", font=font)
    for i, row in enumerate(rows):
        top = MARGIN + i * (CELL + GAP)
        for j, image in enumerate([found.images[row], found.attacked[row], *recalled[i]]):
            picture.paste(cell(image), (MARGIN + j * (CELL + GAP), top))
        for line, (words, colour) in enumerate(said(found, row, names)):
            pen.text((left, top + 8 + LINE * line), words, fill=colour, font=font)
    for line, words in enumerate(below):
        pen.text((MARGIN, MARGIN + len(rows) * (CELL + GAP) + LINE * line), words, fill="#555", font=font)
    return picture


def said(found: Outcome, row: int, names: Sequence[str]) -> list[tuple[str, str]]:
    """The true class of an image, and what N alone and the defence say of it, each with its colour."""
    true, alone, elected = int(found.labels[row]), int(found.alone[row]), int(found.elected[row])
    share = f"{100 * float(found.shares[row, elected]):.0f} %"
    return [
        (f"true: {names[true]}", "#555"),
        (f"N alone: {names[alone]}, {'right' if alone == true else 'wrong'}", COLOURS[alone == true]),
        (f"CARSO: {names[elected]}, {'right' if elected == true else 'wrong'} ({share})", COLOURS[elected == true]),
    ]


def cell(image: Tensor) -> Image.Image:
    pixels = (image * 255).round().byte().permute(1, 2, 0).squeeze(2).numpy()
    return Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.NEAREST).convert("RGB")


if __name__ == "__main__":
    for given in sys.argv[1:] or PICTURES:
        draw(given)
