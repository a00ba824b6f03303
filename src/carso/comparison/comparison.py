"""The study carried out in a folder: each entry trained, audited in two norms, and measured.

    OUT/                   comparison.json and report.html of all that is there
    OUT/NAME/              an entry: entry.json, what the study says of it; rival.safetensors, or a recipe's
                           classifier.safetensors and training.json; history.json, audit.json, figures.json
    OUT/NAME/unforeseen/   audit.json in the norm that no training foresaw

Every step leaves its result in the folder, and a step whose result is there is not done again. Processes that work
together share the entries, each alone with one; fewer entries than processes are shared image by image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

import carso
from carso import data
from carso.audit import audit
from carso.audit.effort import Effort, settings_of
from carso.audit.loading import undefended_of
from carso.audit.results import Audit, read_audit
from carso.comparison.measuring import measured, rows_of
from carso.comparison.page import write_page
from carso.comparison.results import (
    FIGURES,
    Audited,
    Comparison,
    Figures,
    Line,
)
from carso.comparison.study import Entry, Study
from carso.comparison.subjects import Subjects
from carso.data import Dataset
from carso.data.labelled import check_enough
from carso.evaluation.environment import environment
from carso.evaluation.examples import SharedExamples
from carso.evaluation.radii import check_radii
from carso.processes.group import by_first, count, divided
from carso.progress import note, progress, track
from carso.storage import weights
from carso.storage.files import copy, says, settle
from carso.storage.folder import AUDIT
from carso.training.plan import announce
from carso.types import Norm

UNFORESEEN, SETTINGS = "unforeseen", "entry.json"

STEPS = 4
"""Of an entry: training, the two audits, its other figures."""


@dataclass(frozen=True)
class ComparisonStudy:
    """A study, and the folder in which it is carried out.

    Args:
        study: its entries.
        out: the folder; made if missing.
        device: where to train.
        seed: of trainings and attacks.
        images: how many test images, from the first; by default as many as the study says, of each entry.
        command: what a reader should type to get the same figures.
    """

    study: Study
    out: Path
    device: torch.device
    seed: int = 0
    images: int | None = None
    command: str = ""

    def carry_out(self, names: Sequence[str] = ()) -> Comparison:
        """The entries of these names, or all; the table and the page are of all that are there then.

        Raises:
            RecipeError: if there is no entry of a name.
            DataError: if there are fewer test images than are asked for.
            CarsoError: if a radius lies beyond the images.
            RunError: if the folder holds another study.
        """
        chosen = self.study.chosen(names)
        self._check(chosen.values())
        for name in dict.fromkeys([*chosen, *filter(None, (entry.weights_of for entry in chosen.values()))]):
            by_first(partial(self._open, name))
        by_first(self._tell_of_others)
        by_first(lambda: announce([each for name in chosen for each in self._subjects.pending(name)]))
        if len(chosen) < count():
            for name in chosen:
                self._carry_out(name)
        else:
            sources = sorted({entry.weights_of for entry in chosen.values() if entry.weights_of})
            self._divide(sources, self._subjects.of, "trainings of several entries")
            self._divide(list(chosen), self._carry_out, "rivals")
        return by_first(self._publish)

    def _check(self, entries: Collection[Entry]) -> None:
        """Hold what the audits of entries ask to the test images, before anything is trained."""
        ball, shape = self.study.unforeseen, self._test.shape
        check_enough(self._test, max(self._asked(entry) for entry in entries))
        check_radii(self.study.eps, "Linf", shape)
        check_radii((ball.eps,), ball.norm, shape)

    def _asked(self, entry: Entry) -> int:
        """How many test images an entry is audited on."""
        return self.images or entry.images or self.study.images

    def _tell_of_others(self) -> None:
        others = [name for name in self.study.entries if (self.out / name).exists() and not self._is_own(name)]
        if others:
            note(f"left out, as made by another study, seed, number of images or audit: {', '.join(others)}")

    def _divide(self, names: Sequence[str], work: Callable[[str], object], description: str) -> None:
        with progress(description, len(names)) as bar:
            bar.step = count()
            for done in divided(names, work):
                bar.advance(done - bar.completed)

    def _carry_out(self, name: str) -> None:
        for _ in track(self._steps(name, self.study.entries[name]), name, STEPS):
            pass
        by_first(self._publish)

    def _open(self, name: str) -> None:
        """Hold the folder of an entry to what the study says of it, the seed, the number of images and the audits."""
        folder = self.out / name
        refusal = f"{folder} holds another study, seed, number of images or audit; choose another --out"
        settle(folder / SETTINGS, self._settings(name), refusal)

    def _is_own(self, name: str) -> bool:
        """Whether the folder of an entry is there and of this study, seed, number of images and audits of today."""
        return says(self.out / name / SETTINGS, self._settings(name))

    def _settings(self, name: str) -> str:
        """All that decides the figures of an entry, as JSON; of the audits their attacks and sizes."""
        entry = self.study.entries[name]
        settings = {
            "entry": entry.model_dump(mode="json", exclude={"about", "published"}),
            "study": self.study.model_dump(mode="json", exclude={"entries"}),
            "seed": self.seed,
            "images": self.images,
            "carso": carso.__version__,
            "audit": settings_of([entry.effort or self.study.effort, self.study.unforeseen.effort]),
        }
        return json.dumps(settings, indent=1) + "\n"

    @cached_property
    def _subjects(self) -> Subjects:
        return Subjects(self.study, self.out, self.device, self.seed, self._settings)

    @cached_property
    def _test(self) -> Dataset:
        return data.load(self.study.data, "test").in_turns()

    @cached_property
    def _examples(self) -> SharedExamples:
        return SharedExamples(self.seed)

    def _steps(self, name: str, entry: Entry) -> Iterator[None]:
        """Carry out one entry, from its training, if it has one, to its figures."""
        folder, ball, eps = self.out / name, self.study.unforeseen, self.study.eps
        if self.images is None and not (folder / AUDIT).exists():
            by_first(partial(self._take_shipped_audit, entry, folder))
        subject = self._subjects.of(name)
        yield
        images = self._asked(entry)
        unforeseen = min(images, ball.images)
        self._audit(subject, name, folder, "Linf", eps, images, entry.effort or self.study.effort)
        yield
        self._audit(subject, name, folder / UNFORESEEN, ball.norm, (ball.eps,), unforeseen, ball.effort)
        yield
        if not (folder / FIGURES).exists():
            rows, trained = rows_of(self.study.data, eps), self._subjects.seconds(name)
            figures = measured(subject, self._test[:images], self._examples, self.seed, trained, rows)
            by_first(partial(figures.write, folder))
        yield

    def _take_shipped_audit(self, entry: Entry, folder: Path) -> None:
        """The audit that ships beside a target's weights, if it asked the same of them and of no fewer images.

        Which attacks made it, it does not say: it may be of earlier ones than today's.
        """
        source = weights.find(entry.target) / AUDIT if entry.target in (*weights.DEFAULTS, *weights.shipped()) else None
        if source is None or entry.randomised or not source.exists():
            return
        found, wanted = read_audit(source), (entry.effort or self.study.effort, self.seed, "Linf", *self.study.eps)
        asked = (found.effort, found.seed, found.budgets[0].norm, *(each.eps for each in found.budgets))
        if asked == wanted and found.n >= (entry.images or self.study.images):
            copy(source, folder / AUDIT)

    def _audit(
        self, subject: Any, name: str, folder: Path, norm: Norm, eps: Sequence[float], n: int, effort: Effort
    ) -> None:
        if (folder / AUDIT).exists():
            return
        plain = undefended_of(self.study.transfer) if self.study.transfer else None
        others = {} if plain is None else {"undefended": plain}
        audit(
            subject,
            self._test,
            effort=effort,
            eps=eps,
            norm=norm,
            n=n,
            seed=self.seed,
            transfer=others,
            name=name,
            out=folder,
        )

    def _publish(self) -> Comparison:
        lines = [line for name, entry in self.study.entries.items() if (line := self._line(name, entry)) is not None]
        found = Comparison(
            study=self.study.name,
            seed=self.seed,
            dataset=self._test.name,
            command=self.command,
            environment=environment(),
            entries=lines,
        )
        found.write(self.out)
        write_page(found, self.out)
        return found

    def _line(self, name: str, entry: Entry) -> Line | None:
        """What there is of an entry that is finished, and is the study's of today."""
        folder = self.out / name
        if not self._is_own(name):
            return None
        if not all((folder / each).exists() for each in (AUDIT, Path(UNFORESEEN) / AUDIT, FIGURES)):
            return None
        audits: list[Audit] = [read_audit(folder), read_audit(folder / UNFORESEEN)]
        figures = Figures.read(folder).told(entry)
        own, unforeseen = (Audited.of(each) for each in audits)
        published = list(entry.published)
        return Line(
            name=name, about=entry.about, audit=own, unforeseen=unforeseen, figures=figures, published=published
        )
