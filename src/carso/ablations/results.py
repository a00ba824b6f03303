"""`ablations.json`: every variant's figures beside the base's, and the verdicts on the statements.

    {"study", "seed", "n", "dataset", "command", "environment", "base": [R], "statements": [S],
     "variants": [{"name", "about", "change", "rows": [R + {"base": F}]}]}
    R = {"attack", "norm", "eps", "foreseen", "directed_at", "seed", "accuracy", "n", "ci95", "classifier": F}
    F = {"accuracy", "n", "ci95"}, in percent
    S = {"says", "place", "verdict", "holds", "fails", "open", "reason"}

`classifier` is N alone under the same images. All of it is computed from the `results.json` of base and variants.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from carso.ablations.study import BASE, NAME, Study, Variant
from carso.ablations.verdict import Figures, Verdict, verdict
from carso.errors import RunError
from carso.evaluation.environment import Environment
from carso.evaluation.results import FILE as RESULTS
from carso.evaluation.results import Count, Percent, Rate, ResultRow, Results, Target, read_results
from carso.storage.files import says, settle
from carso.storage.schema import Kept
from carso.types import Scale

CHANGE = "change.json"


class _Model(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False, extra="forbid")


class Figure(_Model):
    """An accuracy (%) of n images, with its 95 % Wilson interval."""

    accuracy: Percent
    n: Annotated[int, Field(ge=1)]
    ci95: tuple[Percent, Percent]

    @classmethod
    def of(cls, rate: Rate | None) -> Figure | None:
        """That of a rate, if there is one."""
        return None if rate is None else cls(accuracy=rate.accuracy, n=rate.total, ci95=rate.ci95)


class Row(Figure):
    """The defence under one attack, N alone under the same images, and the base's defence under its own."""

    attack: str
    norm: Scale | None
    eps: Annotated[float, Field(ge=0)]
    foreseen: bool
    directed_at: Target
    seed: int
    classifier: Figure | None = None
    base: Figure | None = None

    @property
    def key(self) -> tuple[str, str | None, float, str]:
        """What tells it from the other rows."""
        return self.attack, self.norm, self.eps, self.directed_at


class VariantFigures(_Model):
    """What a variant changes, and its rows."""

    name: str
    about: str
    change: dict[str, Any]
    rows: list[Row]


class StatementFound(_Model):
    """A statement, the verdict on it, and how many comparisons hold, fail and are open."""

    says: str
    place: str
    verdict: Verdict
    holds: Count
    fails: Count
    open: Count
    reason: str = ""


class Ablations(Kept, _Model):
    """The whole of `ablations.json`."""

    KEPT_AS, REMEDY = "ablations.json", "`carso reproduce ablations` writes it anew"

    study: str
    seed: int
    n: Annotated[int, Field(ge=1)]
    dataset: str
    command: str
    environment: Environment
    base: list[Row]
    variants: list[VariantFigures]
    statements: list[StatementFound]


def tabulated(study: Study, folder: Path, command: str = "") -> Ablations:
    """All that is known so far of a study, from the results in its folder and in those of its variants.

    Raises:
        RunError: if the base's results are missing, or some are damaged, or of another seed, data set or n.
    """
    base = read_results(folder)
    found = {name: folder / name for name, variant in study.variants.items() if _is_there(variant, folder / name)}
    results = {name: _alike(read_results(path), base, path) for name, path in found.items()}
    figures = {BASE: base.rows} | {name: each.rows for name, each in results.items()}
    own = {row.key: row for row in _rows(base)}
    return Ablations(
        study=NAME,
        seed=base.seed,
        n=base.n,
        dataset=base.dataset,
        command=command,
        environment=base.environment,
        base=list(own.values()),
        variants=[
            VariantFigures(
                name=name,
                about=study.variants[name].about,
                change=study.variants[name].change,
                rows=_rows(each, own),
            )
            for name, each in results.items()
        ],
        statements=_judged(study, figures),
    )


def judged(study: Study, found: Ablations) -> Ablations:
    """The same figures with the statements of a study, judged anew."""
    rows = {BASE: found.base} | {variant.name: variant.rows for variant in found.variants}
    figures = {name: [_result_row(row) for row in some] for name, some in rows.items()}
    return found.model_copy(update={"statements": _judged(study, figures)})


def open_variant(variant: Variant, folder: Path) -> None:
    """Hold the folder of a variant to what it changes.

    Raises:
        RunError: if what is there was made with another change.
    """
    refusal = f"{folder} holds a variant with another change; choose another --out"
    settle(folder / CHANGE, _written(variant), refusal)


def _is_there(variant: Variant, folder: Path) -> bool:
    return (folder / RESULTS).exists() and says(folder / CHANGE, _written(variant))


def _written(variant: Variant) -> str:
    return json.dumps(variant.change, indent=1) + "\n"


def _alike(results: Results, base: Results, path: Path) -> Results:
    if (results.seed, results.n, results.dataset) != (base.seed, base.n, base.dataset):
        raise RunError(f"{path} was evaluated on other images or with another seed than the base; choose another --out")
    return results


def _judged(study: Study, figures: Figures) -> list[StatementFound]:
    found = []
    for statement in study.statements:
        judged, counted = verdict(statement, figures)
        about = statement.model_dump(include={"says", "place", "reason"})
        counts = {each: counted[each] for each in ("holds", "fails", "open")}
        found.append(StatementFound.model_validate({"verdict": judged, **about, **counts}))
    return found


def _rows(results: Results, base: Mapping[Any, Row] | None = None) -> list[Row]:
    rows = [_row(row, row.carso, results.seed) for row in results.rows if row.carso is not None]
    if base is None:
        return rows
    beside = {key: Figure(accuracy=row.accuracy, n=row.n, ci95=row.ci95) for key, row in base.items()}
    return [row.model_copy(update={"base": beside.get(row.key)}) for row in rows]


def _row(row: ResultRow, rate: Rate, seed: int) -> Row:
    return Row(
        accuracy=rate.accuracy,
        n=rate.total,
        ci95=rate.ci95,
        attack=row.attack,
        norm=row.norm,
        eps=row.eps,
        foreseen=row.foreseen,
        directed_at=row.directed_at,
        seed=seed,
        classifier=Figure.of(row.adversarially_trained),
    )


def _result_row(row: Row) -> ResultRow:
    """The other way."""
    about = row.model_dump(include={"attack", "norm", "eps", "foreseen", "directed_at"})
    classifier = None if row.classifier is None else _rate(row.classifier)
    return ResultRow(**about, carso=_rate(row), adversarially_trained=classifier)


def _rate(figure: Figure) -> Rate:
    return Rate.of(round(figure.accuracy * figure.n / 100), figure.n)


def read_ablations(path: str | Path) -> Ablations:
    """Read `ablations.json`, given itself or its folder.

    Raises:
        RunError: if it is missing, no JSON, or a field is missing or wrong.
    """
    return Ablations.read(path)
