"""The state of a budget on disk: tensors in one safetensors file, everything else as JSON in its header.

It is written aside after each round. What is read back is held to a schema, and to the images that are audited.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from carso.audit.diagnostics import Diagnostics
from carso.audit.plan import Kind, On, Tuning
from carso.audit.state import AttackState, State
from carso.errors import RunError
from carso.evaluation.results import Count
from carso.storage.schema import damaged, explained
from carso.storage.tensors import read_state, write_tensors
from carso.types import Budget, Images, Labels

KIND = "audit state"
REMEDY = "delete it to audit this budget again"
PARTS = ("right", "attacked", "claimed", "known")

ROUNDING = 0.01
"""Relative difference of two scores that another number of threads, another device or a lower precision may make."""


class _Schema(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _About(_Schema):
    name: str
    kind: Kind
    on: On
    options: dict[str, Any]


class _Entry(_Schema):
    about: _About
    gains: list[Count]
    seconds: Annotated[float, Field(ge=0)]
    non_finite: Count = 0


class _Tuning(_Schema):
    eot: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=1)]
    loss: Literal["cross_entropy", "margin"]


class _Header(_Schema):
    identity: str
    k: Annotated[int, Field(ge=1)]
    diagnostics: Diagnostics | None
    tuning: _Tuning
    entries: list[_Entry]


def write(state: State, folder: Path, identity: str) -> None:
    """Keep the state of a budget in a folder, with a digest of whose it is."""
    tensors = {"clean": state.clean, "worst": state.worst, "worst_right": state.worst_right}
    if state.final is not None:
        tensors["final"] = state.final
    further = {"shown": state.shown, "labels": state.labels, "places": state.places}
    tensors |= {name: value for name, value in further.items() if value is not None}
    for name, entry in state.entries.items():
        found = {part: getattr(entry, part) for part in PARTS}
        tensors |= {f"{name}/{part}": value for part, value in found.items() if value is not None}
    description = {
        "kind": KIND,
        "identity": identity,
        "k": state.k,
        "diagnostics": state.diagnostics.model_dump(mode="json") if state.diagnostics else None,
        "tuning": vars(state.tuning),
        "entries": [
            {"about": e.about, "gains": e.gains, "seconds": e.seconds, "non_finite": e.non_finite}
            for e in state.entries.values()
        ],
    }
    write_tensors(path_of(folder, state.budget), tensors, description)


def read(
    folder: Path,
    budget: Budget,
    identity: str,
    images: Images,
    shown: Tensor | None = None,
    before: str | None = None,
) -> State | None:
    """The state of a run that was broken off, or None if there is none.

    Args:
        folder: of the audit.
        budget: one of its budgets.
        identity: a digest of whose state is wanted.
        images: those that are audited, (n, C, H, W).
        shown: what its target answered at the first look, (b, classes), which is the same but for rounding; None if
            that does not tell.
        before: the digest of the same audit as it was made before.

    Raises:
        RunError: if it belongs to another audit, or is damaged.
    """
    path = path_of(folder, budget)
    if not path.exists():
        return None
    tensors, about = _read(path)
    if about.identity not in (identity, before) or (shown is not None and not _alike(tensors.get("shown"), shown)):
        raise RunError(
            f"{folder} holds the audit of another target or other images, "
            "or by other settings or attacks than today's; choose another --out"
        )
    state = _state(about, _Kept(path, tensors, images, about.k), budget)
    state.shown = shown
    return state


@dataclass(frozen=True)
class Worst:
    """What an audit found at a budget, image by image.

    Attributes:
        images: the most harmful image (n, C, H, W) found of each, in [0, 1]; the clean one where none did harm.
        labels: true classes (n,), as the target numbers them.
        standing: which of the images (n,) nothing has broken: those that the worst case counts.
        places: where each of them lies (n,) in the data set.
    """

    images: Images
    labels: Labels
    standing: Tensor
    places: Tensor


def read_worst(folder: str | Path, budget: Budget) -> Worst:
    """What an audit that is done found at a budget, image by image, from the state in its folder.

    Args:
        folder: of the audit, its `out`.
        budget: one of its budgets.

    Raises:
        RunError: if its state is missing, damaged, not done, or from before labels were kept.
    """
    state = _done(Path(folder), budget)
    if state.labels is None or state.places is None:
        raise RunError(f"{folder}: its state in {budget} is from before it had labels; audit into another folder")
    return Worst(state.worst, state.labels, state.standing(), state.places)


def left(folder: Path, budget: Budget) -> Tensor:
    """Which images (n,) survived a finished audit at a budget; raises as `read_worst`, but for labels."""
    return _done(folder, budget).standing()


def _done(folder: Path, budget: Budget) -> State:
    path = path_of(folder, budget)
    tensors, about = _read(path)
    images = tensors.get("worst", torch.empty(0, 0, 0, 0))
    state = _state(about, _Kept(path, tensors, images, about.k), budget)
    if state.final is None:
        raise RunError(f"{folder}: its audit in {budget} is not done; the same command goes on with it")
    return state


def _read(path: Path) -> tuple[dict[str, Tensor], _Header]:
    tensors, description = read_state(path, KIND, REMEDY)
    try:
        return tensors, _Header.model_validate_json(json.dumps(description))
    except ValidationError as error:
        raise damaged(path, explained(error), REMEDY) from error


def _alike(kept: Tensor | None, shown: Tensor) -> bool:
    """Whether both are the same scores, to rounding."""
    if kept is None or kept.shape != shown.shape or kept.dtype != shown.dtype:
        return False
    typical = float(shown.abs().median())
    return torch.allclose(kept, shown, rtol=ROUNDING, atol=ROUNDING * typical, equal_nan=True)


class _Kept:
    """The tensors of a file, each of which is one of n images or says something of each of them.

    Raises:
        RunError: where one is missing, or has another shape, dtype or range than it must have.
    """

    def __init__(self, path: Path, tensors: dict[str, Tensor], images: Images, k: int) -> None:
        self.path, self.tensors, self.images, self.k = path, tensors, images, k

    def pictures(self, name: str) -> Images:
        """Images (n, C, H, W) in [0, 1]."""
        return self._tensor(name, self.images.shape, torch.float32, 1)

    def votes(self, name: str) -> Tensor:
        """Votes (n,) out of k."""
        return self._tensor(name, self.images.shape[:1], torch.int64, self.k)

    def numbers(self, name: str) -> Tensor | None:
        """Classes or places (n,), from 0; None where there are none."""
        most = torch.iinfo(torch.int64).max
        return self._tensor(name, self.images.shape[:1], torch.int64, most) if name in self.tensors else None

    def marks(self, name: str) -> Tensor:
        """Which images (n,)."""
        return self._tensor(name, self.images.shape[:1], torch.bool, 1)

    def _tensor(self, name: str, shape: torch.Size, dtype: torch.dtype, most: int) -> Tensor:
        found = self.tensors.get(name)
        if found is None:
            raise damaged(self.path, f"lacks the tensor {name!r}", REMEDY)
        if found.shape != shape or found.dtype != dtype:
            given, wanted = (f"{kind} {tuple(size)}" for kind, size in ((found.dtype, found.shape), (dtype, shape)))
            raise damaged(self.path, f"{name!r} is {given}, not {wanted}", REMEDY)
        if not (found.min() >= 0 and found.max() <= most):
            raise damaged(self.path, f"{name!r} leaves the range from 0 to {most}", REMEDY)
        return found


def _state(about: _Header, kept: _Kept, budget: Budget) -> State:
    state = State(budget, about.k, kept.votes("clean"), kept.pictures("worst"), kept.votes("worst_right"))
    state.diagnostics, state.tuning = about.diagnostics, Tuning(**about.tuning.model_dump())
    state.final = kept.votes("final") if "final" in kept.tensors else None
    state.labels, state.places = kept.numbers("labels"), kept.numbers("places")
    for entry in about.entries:
        state.entries[entry.about.name] = _attack_state(entry, kept)
    return state


def _attack_state(entry: _Entry, kept: _Kept) -> AttackState:
    name = entry.about.name
    claimed, known = (
        kept.marks(f"{name}/{part}") if f"{name}/{part}" in kept.tensors else None for part in ("claimed", "known")
    )
    return AttackState(
        kept.votes(f"{name}/right"),
        kept.marks(f"{name}/attacked"),
        entry.about.model_dump(),
        claimed,
        known,
        entry.gains,
        entry.non_finite,
        entry.seconds,
    )


def path_of(folder: Path, budget: Budget) -> Path:
    """Where the state of a budget is."""
    return folder / "state" / f"{budget.norm}-{budget.eps!r}.safetensors"
