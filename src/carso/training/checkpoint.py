"""A checkpoint: everything that training needs to go on as if it had never stopped.

Randomness is no part of it: every epoch starts from a seed of its own (see `carso.training.loop`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from carso.errors import RunError, WeightsError
from carso.storage.filling import check_fit, fill
from carso.storage.schema import Schema, validated
from carso.storage.tensors import check_finite, read_tensors, write_tensors
from carso.training.history import Figure
from carso.training.optimise import Optimisation

KIND = "checkpoint"

KEPT: dict[type[torch.optim.Optimizer], tuple[tuple[str, ...], tuple[str, ...]]] = {
    torch.optim.RAdam: (("step",), ("exp_avg", "exp_avg_sq")),
    torch.optim.SGD: ((), ("momentum_buffer",)),
}
"""What an optimiser keeps of a parameter: its counts, and what is shaped like the parameter."""


class PlateauState(Schema):
    """What `carso.training.optimise.Plateau` keeps from epoch to epoch."""

    best: float
    waited: Annotated[int, Field(ge=0)]
    scale: Annotated[float, Field(ge=0, le=1)]


class Progress(Schema):
    """How far a stage has come: one entry of history per finished epoch."""

    fingerprint: str
    history: list[dict[str, Figure]]
    plateau: PlateauState
    steps: Annotated[int, Field(ge=0)]


def save_checkpoint(
    path: Path, module: nn.Module, optimisation: Optimisation, fingerprint: str, history: list[dict[str, float]]
) -> None:
    """Write module, optimiser, averaged and slow weights, and history; an old checkpoint survives a failure."""
    tensors = _state(module, optimisation)
    check_finite(_finite(module, optimisation, tensors), path)
    description = {
        "kind": KIND,
        "fingerprint": fingerprint,
        "history": history,
        "plateau": optimisation.plateau.state(),
        "steps": optimisation.steps,
    }
    write_tensors(path, tensors, description)


def load_checkpoint(
    path: Path, module: nn.Module, optimisation: Optimisation, fingerprint: str
) -> list[dict[str, float]]:
    """Restore what `save_checkpoint` wrote and return the history; its length is the number of finished epochs.

    Raises:
        RunError: if the checkpoint belongs to another recipe, seed, classifier or data.
        WeightsError: if it is truncated, damaged or not a checkpoint.
    """
    try:
        return _load(path, module, optimisation, fingerprint)
    except WeightsError as error:
        raise WeightsError(f"{error}; delete it to train this stage from its beginning") from error


def finished(path: Path) -> int:
    """How many epochs a checkpoint holds; 0 where there is none, or none that can be read."""
    try:
        return len(validated(Progress, read_tensors(path, KIND)[1], path).history)
    except WeightsError:
        return 0


def _load(path: Path, module: nn.Module, optimisation: Optimisation, fingerprint: str) -> list[dict[str, float]]:
    tensors, description = read_tensors(path, KIND)
    progress = validated(Progress, description, path)
    if progress.fingerprint != fingerprint:
        raise RunError(
            f"{path} belongs to another recipe, seed, classifier or data; choose another --out, or delete it to start "
            "this stage over"
        )
    check_finite(_finite(module, optimisation, tensors), path)
    averages, slow, states = (_under(f"{prefix}.", tensors) for prefix in ("average", "slow", "optimiser"))
    check_fit(optimisation.average, averages, path)
    check_fit(optimisation.slow, slow, path)
    check_fit(_states_like(optimisation.optimiser, states), states, path)
    fill(module, _under("module.", tensors), path)
    for kept, values in ((optimisation.average, averages), (optimisation.slow, slow)):
        for name, value in values.items():
            kept[name].copy_(value)
    _restore(optimisation.optimiser, states)
    optimisation.plateau.restore(progress.plateau.model_dump())
    optimisation.steps = progress.steps
    return progress.history


def _state(module: nn.Module, optimisation: Optimisation) -> dict[str, Tensor]:
    state = optimisation.optimiser.state_dict()["state"]
    tensors: dict[str, Tensor] = {f"module.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in optimisation.average.items()}
    tensors |= {f"slow.{k}": v for k, v in optimisation.slow.items()}
    return tensors | {f"optimiser.{i}.{k}": torch.as_tensor(v) for i, entry in state.items() for k, v in entry.items()}


def _finite(module: nn.Module, optimisation: Optimisation, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a checkpoint must be finite: all but what was not from the beginning, such as a mask."""
    free = {f"module.{name}" for name in module.state_dict().keys() - optimisation.tracked.keys()}
    return {name: value for name, value in tensors.items() if name not in free}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _states_like(optimiser: torch.optim.Optimizer, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """What RAdam or SGD keeps of those of its parameters that have had a gradient."""
    counts, moments = KEPT[type(optimiser)]
    begun = {name.partition(".")[0] for name in given}
    kept: dict[str, Tensor] = {}
    for i, parameter in enumerate(optimiser.param_groups[0]["params"]):
        if str(i) in begun:
            kept |= {f"{i}.{name}": torch.zeros(()) for name in counts}
            kept |= {f"{i}.{name}": parameter for name in moments}
    return kept


def _restore(optimiser: torch.optim.Optimizer, entries: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, value in entries.items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
