"""The state of one budget: what every attack did to every image, enough to go on from and to compute every figure.

It is kept after each round (`carso.audit.keeping`), and a run that was broken off goes on with the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from carso.audit.diagnostics import Diagnostics
from carso.audit.plan import Attempt, Tuning
from carso.types import Budget, Images


@dataclass
class AttackState:
    """One attack so far.

    Args:
        right: votes (n,) out of k that were right on its images; k where it has not succeeded or did not attack.
        attacked: the images (n,) that it was given.
        claimed: the images (n,) that it says it broke, if it says so.
        known: the images (n,) on which the target is right if it uses the latents that the attack knows, if any.
        gains: images newly broken in each round so far.
        non_finite: images on which it met gradients that are NaN or infinite, in the round that met most.
        seconds: spent so far.
        about: name, kind, on and options, as in `Attempt`.
    """

    right: Tensor
    attacked: Tensor
    about: dict[str, Any]
    claimed: Tensor | None = None
    known: Tensor | None = None
    gains: list[int] = field(default_factory=list)
    non_finite: int = 0
    seconds: float = 0.0

    @property
    def rounds(self) -> int:
        """How many rounds are done."""
        return len(self.gains)

    @property
    def count(self) -> int:
        """How many images it attacked."""
        return int(self.attacked.sum())


@dataclass
class State:
    """The state.

    Args:
        budget: of all attacks.
        k: votes per image.
        clean: right votes (n,) on the clean images.
        worst: the most harmful image (n, C, H, W) found so far.
        worst_right: right votes (n,) on it.
        entries: the attacks by name, in order.
        diagnostics: what was measured.
        tuning: what it led to.
        final: right votes (n,) on `worst`, cast when all attacks were done.
        shown: what the target answered at the first look, if it would again (see `Target`).
        labels: classes (n,) of the images, as the target numbers them; None in files of before they were kept.
        places: where the images lie (n,) in the data set, likewise.
    """

    budget: Budget
    k: int
    clean: Tensor
    worst: Images
    worst_right: Tensor
    entries: dict[str, AttackState] = field(default_factory=dict)
    diagnostics: Diagnostics | None = None
    tuning: Tuning = field(default_factory=Tuning)
    final: Tensor | None = None
    shown: Tensor | None = None
    labels: Tensor | None = None
    places: Tensor | None = None

    @classmethod
    def open(cls, budget: Budget, k: int, clean: Tensor, images: Images, shown: Tensor | None = None) -> State:
        """Before the first attack."""
        return cls(budget, k, clean, images.clone(), clean.clone(), shown=shown)

    def entry(self, attempt: Attempt) -> AttackState:
        """The entry of an attack, opened if it is new; until a round of it is done, about the attempt as it is."""
        about = {
            "name": attempt.name,
            "kind": attempt.kind,
            "on": attempt.on,
            "options": dict(attempt.options),
        }
        if attempt.name not in self.entries:
            nobody = torch.zeros(len(self.clean), dtype=torch.bool)
            self.entries[attempt.name] = AttackState(torch.full_like(self.clean, self.k), nobody, about)
        elif not self.entries[attempt.name].rounds:
            self.entries[attempt.name].about = about
        return self.entries[attempt.name]

    def broken(self, right: Tensor) -> Tensor:
        """Which images (n,) count as broken, from their right votes."""
        return 2 * right <= self.k

    @property
    def right_when_clean(self) -> Tensor:
        """The images (n,) that are answered rightly when clean."""
        return ~self.broken(self.clean)

    @property
    def refuted(self) -> Tensor:
        """Images (n,) whose breach does not stand: the final votes on their worst image are mostly right.

        A single vote, of a target that is taken for deterministic, refutes nothing: it may be its memory that answers.
        """
        if self.final is None or self.k == 1:
            return torch.zeros_like(self.right_when_clean)
        return ~self.broken(self.final)

    def standing(self, *names: str) -> Tensor:
        """The images (n,) that are right when clean and survive the named attacks, or all of them."""
        left = self.right_when_clean
        for name in names or self.entries:
            left = left & (~self.broken(self.entries[name].right) | self.refuted)
        return left

    def note(self, attempt: Attempt, rows: Tensor, found: Images, right: Tensor) -> None:
        """Record the votes on the images that one round found for some rows."""
        entry = self.entry(attempt)
        entry.attacked[rows] = True
        entry.right[rows] = torch.minimum(entry.right[rows], right)
        before = self.worst_right[rows]
        better = (right < before) | ((right == before) & (attempt.kind == "white-box"))
        self.worst[rows[better]] = found[better]
        self.worst_right[rows[better]] = right[better]
