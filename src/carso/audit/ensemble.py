"""All attacks of one budget, round by round."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from carso.audit import keeping
from carso.audit.diagnostics import MISLED, DiagnosticRun
from carso.audit.effort import Settings
from carso.audit.finite import crafted, mended
from carso.audit.neighbours import Neighbours
from carso.audit.plan import Attempt, lately, plan
from carso.audit.results import AttackResult, BudgetResult
from carso.audit.state import AttackState, State
from carso.audit.verdict import Judge, rate
from carso.evaluation.seeding import seeded
from carso.processes.group import by_first, shared
from carso.progress import progress, shown, track
from carso.types import Classifier, Images, Labels

CHUNK = 500
"""Images attacked at a time, which bounds the memory."""

SETTLED = 0.5
"""Points: an attack that may end early does so once the later half of its rounds gained less."""

VERDICT = 36
"""Calls that a verdict on a random target takes, roughly: the median over audits on record; on another target one."""


@dataclass(frozen=True)
class _Found:
    """Of one chunk: the attacked images, right votes on them, and the rest as in `AttackState`."""

    images: Images
    right: Tensor
    non_finite: int
    claimed: Tensor | None
    known: Tensor | None


@dataclass(frozen=True)
class Subject:
    """What is attacked, on which images, and what helps to attack it.

    Args:
        judge: passes verdicts on the target.
        images: (n, C, H, W) on the CPU.
        labels: their classes (n,), likewise.
        neighbours: images among which those of other classes are where one of the attacks begins.
        transfer: other models whose adversarial images are tried, by name.
        places: where the images lie (n,) in the data set.
    """

    judge: Judge
    images: Images
    labels: Labels
    neighbours: Neighbours
    transfer: Mapping[str, Classifier]
    places: Tensor


class Ensemble:
    """One budget's attacks on a target.

    Args:
        subject: what is attacked.
        settings: of the audit.
        state: what was done so far.
        out: the folder of the state, if they are kept, and whose they are.
    """

    def __init__(self, subject: Subject, settings: Settings, state: State, out: tuple[Path, str] | None = None) -> None:
        self.judge, self.images, self.labels = subject.judge, subject.images, subject.labels
        self.neighbours, self.transfer = subject.neighbours, subject.transfer
        self.state, self.out, self.device = state, out, subject.judge.target.device
        self.sizes, self.seed, self.eot = settings.sizes, settings.seed, settings.eot
        self.chunk = settings.chunk or CHUNK

    def run(self) -> BudgetResult:
        """Tune, attack, and pass the final verdict, from wherever the state stands."""
        self.tune()
        attempts = self._plan()
        with progress(f"attacks in {self.state.budget}", self._ahead(attempts)) as bar:
            for attempt in attempts:
                entry = self.state.entry(attempt)
                while entry.rounds < len(attempt.rounds) and not self._settled(attempt, entry):
                    bar.step = self._calls(attempt) * len(self._rows(attempt, entry))
                    self._round(attempt, entry.rounds)
                    bar.total = bar.completed + bar.step + self._ahead(attempts)
                    bar.advance(bar.step)
        if self.state.final is None:
            assert self.state.diagnostics is not None
            self.state.final, remembered = by_first(self._final)
            self.state.diagnostics = self.state.diagnostics.model_copy(update={"remembered": remembered})
            self._save()
        return self.found()

    def found(self) -> BudgetResult:
        """The figures."""
        state, entries = self.state, self.state.entries
        assert state.final is not None
        assert state.diagnostics is not None
        names = list(entries)
        white = [name for name in names if entries[name].about["kind"] in ("one-step", "white-box")]
        attacks = [self._found(entry, names[: place + 1]) for place, entry in enumerate(entries.values())]
        alone = {attack.name: attack.result.correct for attack in attacks if attack.on == "all"}
        right, k = state.final * state.right_when_clean, state.k
        return BudgetResult(
            norm=state.budget.norm,
            eps=state.budget.eps,
            clean=rate(state.right_when_clean),
            worst_case=rate(state.standing()),
            attacks=attacks,
            mean=100 * right.sum().item() / (k * len(right)),
            worst_of_k=rate(state.standing() & (right == k)),
            white_box=rate(state.standing(*white)) if white else None,
            strongest=_strongest(alone, int(state.right_when_clean.sum())),
            diagnostics=state.diagnostics,
        )

    def _found(self, entry: AttackState, so_far: list[str]) -> AttackResult:
        about, state = entry.about, self.state
        left = state.standing(about["name"]) if about["on"] == "all" else state.standing(*so_far)
        clean = state.right_when_clean
        return AttackResult(
            **about,
            result=rate(left),
            seconds=round(entry.seconds, 2),
            attacked=entry.count,
            gains=[100 * gain / len(clean) for gain in entry.gains],
            non_finite=entry.non_finite,
            claimed=None if entry.claimed is None else rate(clean & ~entry.claimed),
            known=None if entry.known is None else rate(clean & entry.known),
        )

    def _plan(self) -> list[Attempt]:
        target, state, measured = self.judge.target, self.state, self.state.diagnostics
        assert measured is not None
        if broken := measured.non_finite > 0 and target.candidates is not None:
            target = replace(target, candidates=mended(target.candidates))
        parts = state.budget, self.sizes, state.tuning, self.transfer, self.neighbours
        return list(plan(target, *parts, measured.blind, broken, measured.misled > MISLED))

    def tune(self) -> None:
        """Measure the target, and choose how the strongest attack is made, unless that is done."""
        if self.state.diagnostics is not None:
            return
        rows = self.state.right_when_clean.nonzero().squeeze(1)[: self.sizes.tuning]
        run = DiagnosticRun(self.judge, *self._move(rows), self.state.budget)
        with seeded(self.seed, self.state.budget, "probe") as generator:
            measured = by_first(lambda: run.measure(self.sizes, self.eot, generator))
        self.state.diagnostics, self.state.tuning = measured
        self._save()

    def _ahead(self, attempts: Sequence[Attempt]) -> int:
        """Calls of the target that the rounds not done yet will take, as far as can be told from who still stands."""
        return sum(self._calls_ahead(attempt, self.state.entries.get(attempt.name)) for attempt in attempts)

    def _calls_ahead(self, attempt: Attempt, entry: AttackState | None) -> int:
        most = len(attempt.rounds)
        least = most if attempt.least is None else min(attempt.least, most)
        rounds = least - (entry.rounds if entry else 0)
        return rounds * self._calls(attempt) * len(self._rows(attempt, entry)) if rounds > 0 else 0

    def _calls(self, attempt: Attempt) -> int:
        """Of a round, for each image, with the verdict."""
        return attempt.calls + (VERDICT if self.judge.target.random else 1)

    def _settled(self, attempt: Attempt, entry: AttackState) -> bool:
        enough = attempt.least is not None and entry.rounds >= attempt.least
        return enough and 100 * lately(entry.gains) < SETTLED * len(self.labels)

    def _round(self, attempt: Attempt, index: int) -> None:
        began, entry, self.state.final = time.perf_counter(), self.state.entry(attempt), None
        rows, before, non_finite = self._rows(attempt, entry), self.state.broken(entry.right).sum(), 0
        chunks = [(start, rows[start : start + self.chunk]) for start in range(0, len(rows), self.chunk)]
        attacked = shared(chunks, partial(self._attack, attempt, index))
        for (_, some), found in track(zip(chunks, attacked, strict=True), attempt.name, len(chunks)):
            self.state.note(attempt, some, found.images, found.right)
            self._aside(entry, some, found)
            non_finite += found.non_finite
        entry.gains.append(int(self.state.broken(entry.right).sum() - before))
        entry.non_finite = max(entry.non_finite, non_finite)
        entry.seconds += time.perf_counter() - began
        self._save()

    def _attack(self, attempt: Attempt, index: int, chunk: tuple[int, Tensor]) -> _Found:
        """What a round does to one chunk, told from the others by where it starts."""
        start, some = chunk
        with seeded(self.seed, self.state.budget, attempt.name, index, start) as generator:
            images, labels = self._move(some)
            found, non_finite = crafted(partial(attempt.rounds[index], images, labels, generator))
            found = found.detach()
            right = self.judge.confirmed(found, self.labels[some])
            claimed = (found != images).flatten(1).any(1).cpu() if attempt.claims else None
            with torch.no_grad():
                known = None if attempt.known is None else (attempt.known(found).argmax(1) == labels).cpu()
        return _Found(found.cpu(), right, non_finite, claimed, known)

    def _rows(self, attempt: Attempt, entry: AttackState | None) -> Tensor:
        """The images that a round is for; of an attack that has no entry yet, its first."""
        left = self.state.right_when_clean if attempt.on == "all" else self.state.standing()
        if entry is not None:
            left = left & ~self.state.broken(entry.right)
            if attempt.most is not None and entry.rounds:
                left = left & entry.attacked
        return left.nonzero().squeeze(1)[: attempt.most]

    def _aside(self, entry: AttackState, rows: Tensor, found: _Found) -> None:
        """What an attack claims, and what it achieves against the latents that it knows."""
        if found.claimed is not None:
            entry.claimed = torch.zeros_like(entry.attacked) if entry.claimed is None else entry.claimed
            entry.claimed[rows] |= found.claimed
        if found.known is not None:
            entry.known = self.state.right_when_clean.clone() if entry.known is None else entry.known
            entry.known[rows] &= found.known

    def _final(self) -> tuple[Tensor, float]:
        """The final verdict, and by how many points a copy that was asked nothing before is right on fewer images.

        That one is asked in the reverse order, beside other images.
        """
        rows, fresh = self.state.right_when_clean.nonzero().squeeze(1), self.judge.target.fresh
        final = self._judged(self.judge, rows, "final")
        if fresh is None:
            return final, 0.0
        untouched = Judge(replace(self.judge.target, answer=fresh()), self.judge.votes)
        anew = self._judged(untouched, rows.flip(0), "untouched")
        lost = int(self.state.broken(anew)[rows].sum() - self.state.broken(final)[rows].sum())
        return final, max(0.0, 100 * lost / len(self.labels))

    def _judged(self, judge: Judge, rows: Tensor, purpose: str) -> Tensor:
        """Right verdicts (n,) on the worst image of each of some rows, in this order."""
        right = torch.zeros_like(self.state.clean)
        with seeded(self.seed, self.state.budget, purpose):
            for some in shown(rows.split(self.chunk), "final verdicts"):
                right[some] = judge.right(self.state.worst[some], self.labels[some])
        return right

    def _move(self, rows: Tensor) -> tuple[Images, Labels]:
        return self.images[rows].to(self.device), self.labels[rows].to(self.device)

    def _save(self) -> None:
        if self.out is not None:
            by_first(partial(keeping.write, self.state, *self.out))


def _strongest(left: Mapping[str, int], clean: int) -> str | None:
    """The attack that leaves the fewest images, if any breaks one."""
    name = min(left, key=left.__getitem__, default=None)
    return name if name is not None and left[name] < clean else None
