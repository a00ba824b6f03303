"""Images from a folder of pictures, as `carso.data.layout` finds them in it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch

from carso.data.dataset import Dataset
from carso.data.layout import read_layout
from carso.data.pictures import Fitting, Survey, decode
from carso.data.splits import Split
from carso.errors import DataError
from carso.progress import note

ALIKE = "pass size=(height, width) and channels=1 or 3 (--size, --channels, or in a recipe) to make them alike"
SKIP = "; skip_bad (--skip-bad, or in a recipe) leaves such pictures out"

LISTED = 20
"""Pictures that cannot be used and are named one by one, at most."""


def load_folder(folder: Path, split: Split, fitting: Fitting | None = None, skip_bad: bool = False) -> Dataset:
    """The images of a split, in the order of their classes and names.

    What was decided and what was left out is said on standard error.

    Args:
        folder: of pictures, laid out as `carso.data.layout` says.
        split: `train`, `validation` or `test`.
        fitting: how pictures are made alike, where they differ; None takes them as they are.
        skip_bad: whether to leave out what cannot be read or is of another kind than the first, rather than refuse it.

    Returns:
        (N, 1, H, W) where all pictures are grey, (N, 3, H, W) where all are in colour; 16 bits become 8, and what is
        transparent becomes white.

    Raises:
        DataError: if the layout can be read in two ways, there are no images, or some cannot be used; names the file.
        RunError: if the cache folder, where many decoded pictures are kept, cannot be written.
    """
    layout = read_layout(folder)
    for line in layout.notes():
        note(f"{folder}: {line}")
    pictures = layout.pictures(split)
    refuse = None if skip_bad else partial(_refuse_mixed, count=len(pictures))
    pixels, survey = decode([path for path, _ in pictures], fitting or Fitting(), refuse)
    if survey.faults:
        _check(survey, len(pictures), skip_bad)
    good = [at for at in range(len(pictures)) if at not in survey.faults]
    names = [pictures[at][1] for at in good]
    numbers = {name: number for number, name in enumerate(layout.classes)}
    labels = [numbers[name] for name in names if name is not None]
    kept = pixels[torch.tensor(good)] if survey.faults else pixels
    return Dataset(str(folder), kept, torch.tensor(labels) if labels else None, layout.classes if labels else ())


def _check(survey: Survey, count: int, skip_bad: bool) -> None:
    """Say which pictures cannot be used; refuse them, unless the fewer half is to be left out."""
    faults = list(survey.faults.values())
    if skip_bad and 2 * len(faults) <= count:
        _tell(faults, f"{len(faults)} of {count} pictures cannot be used and are left out")
        return
    hint = "" if skip_bad else SKIP
    if len(survey.kinds) > 1:
        raise DataError(f"{_odd(faults)}; {ALIKE}{hint}; there are {survey.listed}")
    if len(faults) > 1:
        _tell(faults, f"{len(faults)} of {count} pictures cannot be used")
    raise DataError(f"{faults[0]}{f' ({len(faults)} of {count} cannot be used)' if len(faults) > 1 else ''}{hint}")


def _refuse_mixed(survey: Survey, count: int) -> None:
    """Refuse pictures at the first that is of another kind, before all are decoded."""
    seen = max(survey.faults) + 1
    found = f"there are {survey.listed} among the first {seen:,} of {count:,}"
    raise DataError(f"{_odd(survey.faults.values())}; {ALIKE}{SKIP}; {found}")


def _odd(faults: Iterable[str]) -> str:
    """The first of them by which a picture is of another kind."""
    return next(fault for fault in faults if ": is grey" in fault or ": is in colour" in fault)


def _tell(faults: list[str], what: str) -> None:
    more = [f"and {len(faults) - LISTED} more"] if len(faults) > LISTED else []
    for line in (f"{what}:", *faults[:LISTED], *more):
        note(line)
