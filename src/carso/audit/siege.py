"""All attacks of one budget, round by round."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from carso.audit.chance import chance
from carso.audit.effort import Sizes
from carso.audit.findings import AttackFound, BudgetFound
from carso.audit.ledger import Entry, Ledger
from carso.audit.neighbours import Neighbours
from carso.audit.plan import Attempt, lately, plan
from carso.audit.probe import Prober
from carso.audit.verdict import Judge
from carso.evaluation.results import Rate
from carso.progress import progress
from carso.types import Classifier, Images, Labels

CHUNK = 500
"""Images attacked at a time, which bounds the memory."""

SETTLED = 0.5
"""Points: an attack that may end early does so once the later half of its rounds gained less."""


class Siege:
    """One budget's attacks on a target.

    Args:
        judge: passes verdicts on the target.
        images: (n, C, H, W) on the CPU.
        labels: their classes (n,), likewise.
        ledger: what was done so far.
        sizes: of the attacks.
        seed: of all chance.
        transfer: other models whose adversarial images are tried, by name.
        neighbours: images among which those of other classes are where one of the attacks begins.
        eot: candidates per gradient that the caller insists on.
        out: the folder of the books, if they are kept, and whose they are.
    """

    def __init__(
        self,
        judge: Judge,
        images: Images,
        labels: Labels,
        ledger: Ledger,
        *,
        sizes: Sizes,
        seed: int,
        transfer: Mapping[str, Classifier],
        neighbours: Neighbours,
        eot: int | None = None,
        out: tuple[Path, str] | None = None,
    ) -> None:
        self.judge, self.images, self.labels, self.ledger = judge, images, labels, ledger
        self.sizes, self.seed, self.transfer, self.neighbours = sizes, seed, transfer, neighbours
        self.eot, self.out = eot, out
        self.device = judge.target.device

    def run(self) -> BudgetFound:
        """Measure, attack, and pass the final verdict, from wherever the books stand."""
        if self.ledger.probe is None:
            self._probe()
        attempts = self._plan()
        rounds = sum(len(attempt.rounds) for attempt in attempts)
        done = sum(entry.rounds for entry in self.ledger.entries.values())
        with progress(f"audit {self.ledger.budget}", rounds, done) as bar:
            for attempt in attempts:
                entry = self.ledger.entry(attempt)
                while entry.rounds < len(attempt.rounds) and not self._settled(attempt, entry):
                    self._round(attempt, entry.rounds)
                    bar.advance()
                bar.advance(len(attempt.rounds) - entry.rounds)
        if self.ledger.final is None:
            self._settle()
        return self.found()

    def found(self) -> BudgetFound:
        """The figures."""
        ledger, entries = self.ledger, self.ledger.entries
        assert ledger.final is not None
        assert ledger.probe is not None
        names = list(entries)
        white = [name for name in names if entries[name].about["kind"] in ("one-step", "white-box")]
        attacks = [self._found(entry, names[: place + 1]) for place, entry in enumerate(entries.values())]
        alone = {attack.name: attack.result.correct for attack in attacks if attack.on == "all"}
        right, k = ledger.final * ledger.right_when_clean, ledger.k
        return BudgetFound(
            norm=ledger.budget.norm,
            eps=ledger.budget.eps,
            clean=rate(ledger.right_when_clean),
            worst_case=rate(ledger.standing()),
            attacks=attacks,
            mean=100 * right.sum().item() / (k * len(right)),
            worst_of_k=rate(ledger.standing() & (right == k)),
            white_box=rate(ledger.standing(*white)) if white else None,
            strongest=_strongest(alone, int(ledger.right_when_clean.sum())),
            probe=ledger.probe,
        )

    def _found(self, entry: Entry, so_far: list[str]) -> AttackFound:
        about, ledger = entry.about, self.ledger
        left = ledger.standing(about["name"]) if about["on"] == "all" else ledger.standing(*so_far)
        clean = ledger.right_when_clean
        return AttackFound(
            **about,
            result=rate(left),
            seconds=round(entry.seconds, 2),
            attacked=entry.count,
            gains=[100 * gain / len(clean) for gain in entry.gains],
            claimed=None if entry.claimed is None else rate(clean & ~entry.claimed),
            known=None if entry.known is None else rate(clean & entry.known),
        )

    def _plan(self) -> list[Attempt]:
        target, ledger = self.judge.target, self.ledger
        assert ledger.probe is not None
        blind = ledger.probe.blind
        return list(plan(target, ledger.budget, self.sizes, ledger.tuning, self.transfer, self.neighbours, blind))

    def _probe(self) -> None:
        rows = self.ledger.right_when_clean.nonzero().squeeze(1)[: self.sizes.pilot]
        prober = Prober(self.judge, *self._move(rows), self.ledger.budget)
        with chance(self.device, self.seed, self.ledger.budget, "probe") as generator:
            self.ledger.probe, self.ledger.tuning = prober.measure(self.sizes, self.eot, generator)
        self._save()

    def _settled(self, attempt: Attempt, entry: Entry) -> bool:
        enough = attempt.least is not None and entry.rounds >= attempt.least
        return enough and 100 * lately(entry.gains) < SETTLED * len(self.labels)

    def _round(self, attempt: Attempt, index: int) -> None:
        began, entry = time.perf_counter(), self.ledger.entry(attempt)
        rows, before = self._rows(attempt, entry), self.ledger.broken(entry.right).sum()
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            with chance(self.device, self.seed, self.ledger.budget, attempt.name, index, start) as generator:
                images, labels = self._move(some)
                found = attempt.rounds[index](images, labels, generator).detach()
                right = self.judge.screened(found, self.labels[some])
                self._aside(attempt, entry, some, found, images, labels)
            self.ledger.note(attempt, some, found.cpu(), right)
        entry.gains.append(int(self.ledger.broken(entry.right).sum() - before))
        entry.seconds += time.perf_counter() - began
        self._save()

    def _rows(self, attempt: Attempt, entry: Entry) -> Tensor:
        """The images that a round is for."""
        left = self.ledger.right_when_clean if attempt.on == "all" else self.ledger.standing()
        left = left & ~self.ledger.broken(entry.right)
        if attempt.most is not None and entry.rounds:
            left = left & entry.attacked
        return left.nonzero().squeeze(1)[: attempt.most]

    def _aside(
        self, attempt: Attempt, entry: Entry, rows: Tensor, found: Images, images: Images, labels: Labels
    ) -> None:
        """What an attack claims, and what it achieves against the latents that it knows."""
        if attempt.claims:
            entry.claimed = torch.zeros_like(entry.attacked) if entry.claimed is None else entry.claimed
            entry.claimed[rows] |= (found != images).flatten(1).any(1).cpu()
        if attempt.known is not None:
            entry.known = self.ledger.right_when_clean.clone() if entry.known is None else entry.known
            with torch.no_grad():
                entry.known[rows] &= (attempt.known(found).argmax(1) == labels).cpu()

    def _settle(self) -> None:
        """The final verdict, on the worst image of each row that is right when clean."""
        final, rows = torch.zeros_like(self.ledger.clean), self.ledger.right_when_clean.nonzero().squeeze(1)
        with chance(self.device, self.seed, self.ledger.budget, "final"):
            for some in rows.split(CHUNK):
                final[some] = self.judge.right(self.ledger.worst[some], self.labels[some])
        self.ledger.final = final
        self._save()

    def _move(self, rows: Tensor) -> tuple[Images, Labels]:
        return self.images[rows].to(self.device), self.labels[rows].to(self.device)

    def _save(self) -> None:
        if self.out is not None:
            self.ledger.write(*self.out)


def _strongest(left: Mapping[str, int], clean: int) -> str | None:
    """The attack that leaves the fewest images, if any breaks one."""
    name = min(left, key=left.__getitem__, default=None)
    return name if name is not None and left[name] < clean else None


def rate(right: Tensor) -> Rate:
    """The rate of the images (n,) that are right."""
    return Rate.of(int(right.sum()), len(right))
