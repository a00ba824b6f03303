"""Draw docs/recall.png and docs/recall-photographs.png: test images, attacks on them, and what a defence recalls.

They are the first six of a test set that PGD (40 steps; Linf 0.30 on digits, 8/255 on photographs) turns for N,
whatever CARSO says.

    python benchmarks/docs/recall.py [mnist] [cifar10]
"""

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import carso

ROOT = Path(__file__).parents[2]
CELL, GAP, MARGIN, SHOWN = 72, 8, 34, 7
PICTURES = {
    "mnist": ("recall.png", 0.3, 0.01, 300),
    "cifar10": ("recall-photographs.png", 8 / 255, 2 / 255, 60),
}
"""By data set: file, radius, step, and how many images are attacked together."""


def draw(name: str) -> None:
    file, eps, alpha, count = PICTURES[name]
    defence = carso.load(name)
    names = defence.class_names or tuple(map(str, range(defence.classes)))
    test = carso.data.load(name, "test")[:count]
    generator = torch.Generator().manual_seed(0)
    attacked = carso.attacks.pgd(
        defence.classifier,
        test.images,
        test.required_labels,
        carso.Budget("Linf", eps),
        alpha=alpha,
        generator=generator,
    )
    with torch.no_grad():
        fooled = defence.classifier(attacked).argmax(1)
        rows = (fooled != test.labels).nonzero()[:6, 0].tolist()
        recalled = defence.recall(attacked[rows], samples=SHOWN, generator=generator)
        answers = defence.poll(attacked[rows], stop="never", generator=generator)
    width = 2 * MARGIN + (SHOWN + 2) * (CELL + GAP) + 150
    sheet = Image.new("RGB", (width, 2 * MARGIN + len(rows) * (CELL + GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, title in ((0, "clean"), (1, "attacked"), (2, "recalled from the attacked image")):
        pen.text((MARGIN + column * (CELL + GAP), 12), title, fill="#555", font=font)
    for i, row in enumerate(rows):
        top = MARGIN + i * (CELL + GAP)
        for j, image in enumerate([test.images[row], attacked[row], *recalled[i]]):
            sheet.paste(cell(image), (MARGIN + j * (CELL + GAP), top))
        left = MARGIN + (SHOWN + 2) * (CELL + GAP) + 6
        winner = int(answers.winners[i])
        right = winner == int(test.required_labels[row])
        pen.text((left, top + 16), f"N alone: {names[fooled[row]]}", fill="#b00020", font=font)
        share = f"CARSO: {names[winner]}  ({100 * float(answers.shares[i, winner]):.0f} %)"
        pen.text((left, top + 38), share, fill="#00695c" if right else "#b00020", font=font)
    sheet.quantize(64 if test.images.shape[1] == 1 else 256).save(ROOT / "docs" / file, optimize=True)


def cell(image: Tensor) -> Image.Image:
    pixels = (image * 255).round().byte().permute(1, 2, 0).squeeze(2).numpy()
    return Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.NEAREST).convert("RGB")


if __name__ == "__main__":
    for given in sys.argv[1:] or PICTURES:
        draw(given)
