"""`comparison.json`: every entry of the study that has been carried out so far, with its figures.

    {"study", "seed", "dataset", "command", "environment", "entries": [E]}
    E = {"name", "about", "audit": A, "unforeseen": A, "figures": F, "published": [P]}
    A = {"norm", "effort", "n", "random", "checks": [name], "made",
         "budgets": [{"eps", "clean": R, "worst_case": R, "strongest"}]}
    F = {"trained", "weights", "seconds", "of_n", "cpu", "protocol": [{"attack", "norm", "eps", "result": R}],
         "certified": {"samples", "alpha", "rows": [{"eps", "result": R}]} of what certifies, else null}

`figures.json`, F of one entry, lies in its folder beside the two audits. R is a rate as in `results.json`.
`training.json`, {"seconds"}, says how long a recipe's network was trained, where no interruption hides it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from carso.audit.results import Audit
from carso.comparison.study import Entry, Published
from carso.evaluation.environment import Environment
from carso.evaluation.results import Count, Rate
from carso.storage.schema import Kept
from carso.types import Norm, Scale

FIGURES = "figures.json"
AGAIN = "`carso reproduce rivals`, or its other studies, write it anew"

NotNegative = Annotated[float, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False, extra="forbid")


class ProtocolRow(_Model):
    """One row of the thesis's table: attacks crafted on N alone, and handed on."""

    attack: str
    norm: Scale | None
    eps: NotNegative
    result: Rate


class CertifiedRow(_Model):
    """How many images are answered rightly, with a certificate of at least a radius in L2."""

    eps: NotNegative
    result: Rate


class Certified(_Model):
    """What certificates are worth.

    Attributes:
        samples: votes of each.
        alpha: probability, per image, that one is wrong.
        rows: by radius.
    """

    samples: Annotated[int, Field(ge=1)]
    alpha: NotNegative
    rows: list[CertifiedRow]


class Training(Kept, _Model):
    """How long a recipe's network was trained: the whole of `training.json`."""

    KEPT_AS, REMEDY = "training.json", AGAIN

    seconds: NotNegative


class Figures(Kept, _Model):
    """What is known of an entry beside its audits: the whole of `figures.json`.

    Attributes:
        trained: seconds of its training, without that of an N or of parts taken over; None where nothing was timed.
        weights: how many it has, N's included.
        seconds: of one prediction, of images predicted together.
        of_n: the same, as a multiple of N's, measured in turn with it; 1 of what is its own N.
        cpu: the processor that took them.
        protocol: the thesis's rows, or its attacks at the study's radii.
        certified: of a defence that certifies; None of others, and in records of before.
    """

    KEPT_AS, REMEDY = FIGURES, AGAIN

    trained: NotNegative | None
    weights: Annotated[int, Field(ge=0)]
    seconds: NotNegative
    of_n: NotNegative
    cpu: str
    protocol: list[ProtocolRow]
    certified: Certified | None = None

    def told(self, entry: Entry) -> Figures:
        """The figures as a table shows them: records of before may have timed a network against itself."""
        return self.model_copy(update={"of_n": 1.0}) if entry.alone else self


class Left(_Model):
    """What an audit left at one radius."""

    eps: NotNegative
    clean: Rate
    worst_case: Rate
    strongest: str | None


class Audited(_Model):
    """An audit in short.

    Attributes:
        checks: names of those that are raised.
        made: how many checks it made; None in a record that does not tell.
    """

    norm: Norm
    effort: str
    n: Annotated[int, Field(ge=1)]
    random: bool
    checks: list[str]
    made: Count | None = None
    budgets: list[Left]

    @classmethod
    def of(cls, audit: Audit) -> Audited:
        """The short form of an audit."""
        budgets = [
            Left(eps=each.eps, clean=each.clean, worst_case=each.worst_case, strongest=each.strongest)
            for each in audit.budgets
        ]
        checks = sorted({check.name for check in audit.raised})
        return cls(
            norm=audit.budgets[0].norm,
            effort=audit.effort,
            n=audit.n,
            random=audit.random,
            checks=checks,
            made=len(audit.checks),
            budgets=budgets,
        )


class Line(_Model):
    """An entry and what was found of it."""

    name: str
    about: str
    audit: Audited
    unforeseen: Audited
    figures: Figures
    published: list[Published] = []


class Comparison(Kept, _Model):
    """The whole of `comparison.json`."""

    KEPT_AS, REMEDY = "comparison.json", AGAIN

    study: str
    seed: int
    dataset: str
    command: str
    environment: Environment
    entries: list[Line]


def read_comparison(path: str | Path) -> Comparison:
    """Read `comparison.json`, given itself or its folder.

    Raises:
        RunError: if it is missing, no JSON, or a field is missing or wrong.
    """
    return Comparison.read(path)
