"""A checkpoint: everything that training needs to go on as if it had never stopped.

Randomness is no part of it: every epoch starts from a seed of its own (see `carso.training.loop`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carso.errors import RunError
from carso.storage.tensors import read_tensors, write_tensors
from carso.training.optimise import Optimisation


def save_checkpoint(
    path: Path, module: nn.Module, optimisation: Optimisation, fingerprint: str, history: list[dict[str, float]]
) -> None:
    """Write the module, the optimiser, the averaged weights and the history; an old checkpoint survives a failure."""
    state = optimisation.optimiser.state_dict()["state"]
    tensors: dict[str, Tensor] = {f"module.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in optimisation.average.items()}
    tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(v) for i, entry in state.items() for k, v in entry.items()}
    description = {
        "kind": "checkpoint",
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
        RunError: if the checkpoint belongs to another recipe or seed.
        WeightsError: if it is truncated or not a checkpoint.
    """
    tensors, description = read_tensors(path, "checkpoint")
    if description["fingerprint"] != fingerprint:
        raise RunError(f"{path} belongs to another recipe or seed; choose another --out, or delete it to start over")
    module.load_state_dict(_under("module.", tensors))
    for name, value in _under("average.", tensors).items():
        optimisation.average[name].copy_(value)
    _restore(optimisation.optimiser, _under("optimiser.", tensors))
    optimisation.plateau.restore(description["plateau"])
    optimisation.steps = description["steps"]
    history: list[dict[str, float]] = description["history"]
    return history


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _restore(optimiser: torch.optim.Optimizer, entries: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, value in entries.items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
