"""Sixty photographs of CIFAR-10, six of each class, as files of one's own."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

SHEET, SIDE, EACH = Path(__file__).parents[2] / "tests" / "assets" / "cifar10.png", 32, 6
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def photograph(sheet: Image.Image, row: int, column: int, size: tuple[int, int]) -> Image.Image:
    """One of the sheet's photographs, of a size."""
    left, top = SIDE * column, SIDE * row
    return sheet.crop((left, top, left + SIDE, top + SIDE)).resize(size, Image.Resampling.BICUBIC)


def pictures(folder: Path, size: tuple[int, int] = (SIDE, SIDE), suffix: str = ".png", classes: bool = True) -> None:
    """The sheet's photographs as files, class by class or all in one folder."""
    sheet = Image.open(SHEET)
    for row, name in enumerate(CLASSES):
        for column in range(EACH):
            path = folder / name / f"{column}{suffix}" if classes else folder / f"{name}-{column}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            photograph(sheet, row, column, size).save(path)
