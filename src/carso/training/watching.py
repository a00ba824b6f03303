"""Watching a training: one hook, behind which any tracker fits.

    log(step, losses)             after every epoch: figures by name, such as "purifier/loss"; step is the epoch, from 1
    image(step, name, tensor)     pictures (C, H, W) in [0, 1]: originals above what is recalled of them

Built in is TensorBoard (extra `watch`). A watcher sees what was computed and changes nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from carso.errors import ModelError, shown
from carso.nn.modes import evaluating
from carso.recall import draw, recall
from carso.storage.factory import call
from carso.training.loop import Stage
from carso.training.purifier import PurifierStage

SHOWN, RECALLED = 8, 3
"""How many held-out images are shown, and how many candidates of each beneath it."""


@runtime_checkable
class Watcher(Protocol):
    """Whoever is told how a training goes."""

    def log(self, step: int, losses: Mapping[str, float]) -> None:
        """Take the figures of an epoch by name."""

    def image(self, step: int, name: str, tensor: Tensor) -> None:
        """Take a picture (C, H, W) in [0, 1], on the CPU."""


class TensorBoard:
    """Writes what it is told into a folder that `tensorboard --logdir FOLDER` shows.

    Raises:
        ModelError: if the extra `watch` is missing.
    """

    def __init__(self, folder: str | Path) -> None:
        if find_spec("tensorboard") is None:
            raise ModelError("--watch DIR needs tensorboard: pip install 'carso[watch]'")
        self.folder = folder

    @cached_property
    def writer(self) -> Any:
        """Made when there is something to write, by the process that is told."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder))

    def log(self, step: int, losses: Mapping[str, float]) -> None:
        """Scalars, one per name."""
        for name, value in losses.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def image(self, step: int, name: str, tensor: Tensor) -> None:
        """A picture."""
        self.writer.add_image(name, tensor, step)
        self.writer.flush()


def watcher_of(source: str | None) -> Watcher | None:
    """Who watches: what `package.module:function` returns, or TensorBoard in the folder of that name; None for nobody.

    Raises:
        ModelError: if the function fails or returns no watcher, or the extra `watch` is missing.
    """
    if source is None:
        return None
    if ":" not in Path(source).name or Path(source).is_dir():
        return TensorBoard(source)
    made = call(source)
    if not isinstance(made, Watcher):
        raise ModelError(
            f"{source!r} returned {shown(made)}; a watcher has log(step, losses), image(step, name, tensor)"
        )
    return made


def tell(watcher: Watcher, stage: Stage, entry: Mapping[str, float]) -> None:
    """Tell of an epoch of a stage: its figures and, of a purifier's, what it recalls."""
    step = int(entry["epoch"])
    watcher.log(step, {f"{stage.name}/{key}": value for key, value in entry.items() if key != "epoch"})
    if isinstance(stage, PurifierStage) and len(stage.held_out):
        watcher.image(step, f"{stage.name}/recalled", recalled(stage))


def recalled(stage: PurifierStage) -> Tensor:
    """Held-out images side by side, above candidates of each, of the same latents always: (C, rows H, columns W)."""
    images = stage.held_out[:SHOWN].images
    latents = draw(RECALLED, stage.purifier, torch.Generator().manual_seed(0), images.device)
    with torch.no_grad(), evaluating(stage.purifier):
        codes = stage.purifier.compress(stage.representation(images)[1].float())
        found = recall(stage.purifier, latents, codes)
    rows = torch.cat([images.unsqueeze(1), found], 1).clamp(0, 1)
    return torch.cat(list(torch.cat(list(rows.transpose(0, 1)), 2)), 2).cpu()
