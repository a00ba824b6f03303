"""The verdict: what a run says in one sentence, and what it does not say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from carso.audit.results import Audit
from carso.evaluation.interval import paired, sign
from carso.evaluation.records import Records
from carso.evaluation.results import OWN, Rate, ResultRow, Results
from carso.report import wording
from carso.report.artifacts import column_of, doubt_of

UNLABELLED = (
    "Nobody labelled these images: right is what answers as the classifier does on the image without attack. The "
    "classifier itself is right on all of those, then; how often anything is truly right is not known."
)


@dataclass(frozen=True)
class Verdict:
    """A headline, and sentences that qualify it."""

    headline: str
    notes: tuple[str, ...]


def verdict(results: Results, audit: Audit | None = None, records: Records | None = None) -> Verdict:
    """The verdict of a run on its main column, with the bound of an audit that is known to be of its weights.

    Columns are compared image by image where the records of the run are at hand.
    """
    ours = subject(results)
    doubt = doubt_of(audit, results) if audit else None
    row = hardest(results.rows, ours)
    theirs = "adversarially_trained" if ours != "adversarially_trained" else None
    counted = audit if audit and doubt is None and column_of(audit, results) == ours else None
    if results.corrupted:
        headline = _corrupted(results, row, theirs)
    else:
        headline = _transfer(results, row, theirs) + _end_to_end(results, row, ours, counted) + "."
    tally = _tally(results, ours, theirs, records) if theirs else None
    raised = doubted(counted) if counted else None
    ignored = f"{doubt} The sentence above does not count it." if doubt else None
    clean = UNLABELLED if results.dataset.endswith(OWN) else _clean(results, theirs)
    notes = (clean, tally, _poses(results), raised, ignored)
    return Verdict(headline, tuple(note for note in notes if note))


def subject(results: Results) -> str:
    """The column that the report is about: CARSO, or else the last."""
    columns = results.columns()
    return "carso" if "carso" in columns else columns[-1]


def hardest(rows: list[ResultRow], column: str) -> ResultRow:
    """The attack on the classifier, foreseen if any was, that costs the column most; else the first row."""
    attacked = [r for r in rows if r.norm and r.directed_at == "classifier" and column in r.rates()]
    candidates = [r for r in attacked if r.foreseen] or attacked or rows[:1]
    return min(candidates, key=lambda r: r.rates()[column].accuracy if column in r.rates() else 100.0)


def _named(results: Results) -> tuple[str, str]:
    """The subject's column, and what it is called in a sentence."""
    ours = subject(results)
    return ours, wording.told(ours, results.adversarial)


def _other(results: Results) -> str:
    """What the column `adversarially_trained` is called beside it."""
    return wording.told("adversarially_trained", results.adversarial)


def _transfer(results: Results, row: ResultRow, theirs: str | None) -> str:
    (ours, name), rates = _named(results), row.rates()
    met = wording.crafted(ours, [results])
    where = "Without attack" if row.norm is None else f"Under {wording.attack(row)}, {met}"
    if ours not in rates:
        return f"{where}, {name} was not evaluated"
    said = f"{where}, {name} is right on {short(rates[ours])} of {rates[ours].total:,} images"
    return f"{said} and {_other(results)} on {short(rates[theirs])}" if theirs in rates else said


def _corrupted(results: Results, worst: ResultRow, theirs: str | None) -> str:
    """The mean over corruptions, and the worst of them for the subject."""
    ours, name = _named(results)
    attacks = [row for row in results.rows if row.norm and row.directed_at == "classifier"]
    corruptions = [row.rates() for row in attacks]
    means = {
        column: sum(rates[column].accuracy for rates in corruptions) / len(corruptions)
        for column in (ours, theirs)
        if column and corruptions and all(column in rates for rates in corruptions)
    }
    if ours not in means:
        return f"Under corruptions, {name} was not evaluated."
    rate, beside = worst.rates()[ours], f" and {_other(results)} on {means[theirs]:.1f} %" if theirs in means else ""
    kinds, levels = ({getattr(row, field) for row in attacks} for field in ("attack", "eps"))
    among = wording.several(len(kinds), "corruption", "corruptions")
    strong = wording.several(len(levels), "severity", "severities")
    return (
        f"Over {among} at {strong}, {name} is right on {means[ours]:.1f} % of "
        f"{rate.total:,} images in the mean{beside}; on fewest, {short(rate)}, under {wording.attack(worst)}."
    )


def _poses(results: Results) -> str | None:
    ours, name = _named(results)
    poses = [
        row for row in results.rows if row.norm == "severity" and row.directed_at == "defence" and ours in row.rates()
    ]
    kept = [f"{short(row.rates()[ours])} at {wording.budget('severity', row.eps)}" for row in poses]
    return f"With every image in its worst pose {name} keeps {', '.join(kept)}." if kept else None


def met_whole(results: Results, column: str) -> list[ResultRow]:
    """The attacks that met the column as a whole: those aimed at it, and all where no classifier can be seen in it."""
    attacks = [row for row in results.rows if row.norm and column in row.rates()]
    return [row for row in attacks if row.directed_at == "defence" or column in results.hidden]


def _end_to_end(results: Results, row: ResultRow, ours: str, audit: Audit | None) -> str:
    aimed = [(r.norm, r.eps, r.rates()[ours]) for r in met_whole(results, ours) if r.norm]
    aimed += [(b.norm, b.eps, b.worst_case) for b in (audit.budgets if audit else [])]
    if not aimed:
        return "; no attack of this run was aimed at the whole defence"
    same = [bound for bound in aimed if bound[:2] == (row.norm, row.eps)]
    norm, eps, worst = min(same or aimed, key=lambda bound: bound[2].accuracy)
    at = "" if same else f" at {wording.budget(norm, eps)}"
    above = row.rates().get(ours)
    if ours in results.hidden and worst == above:
        return ""
    of = "" if above and above.total == worst.total else f" of {worst.total:,} images"
    return f"; attacked as a whole{at}, it keeps {short(worst)}{of}"


def _clean(results: Results, theirs: str | None) -> str | None:
    ours, name = _named(results)
    clean = next((row.rates() for row in results.rows if row.norm is None and ours in row.rates()), None)
    if clean is None:
        return None
    beside = f", {_other(results)} on {short(clean[theirs])}" if theirs in clean else ""
    return f"Without attack, {name} is right on {short(clean[ours])}{beside}."


def _tally(results: Results, ours: str, theirs: str, records: Records | None) -> str | None:
    what = "rows of corruptions" if results.corrupted else "attacks on the classifier"
    attacks = [r for r in results.rows if r.norm and r.directed_at == "classifier"]
    attacked = [r for r in attacks if {ours, theirs} <= set(r.rates())]
    if not attacked:
        return None
    sides = [sign(gain) for gain in _gains(attacked, ours, theirs, records)]
    ahead, behind = sides.count(1), sides.count(-1)
    return (
        f"Of {len(sides)} {what}, {_named(results)[1]} is ahead of {_other(results)} in {ahead} "
        f"and behind in {behind}; in {len(sides) - ahead - behind} the 95 % interval of the difference includes 0."
    )


def _gains(rows: Iterable[ResultRow], ours: str, theirs: str, records: Records | None) -> Iterator[tuple[float, float]]:
    """The interval of the difference in each row, by pairs of answers where the records have them."""
    kept = {_key(records.result_row(each)): each.outcomes for each in records.rows.values()} if records else {}
    for row in rows:
        own, other, outcomes = row.rates()[ours], row.rates()[theirs], kept.get(_key(row), {})
        if records and {ours, theirs} <= outcomes.keys():
            yield paired(records.right(outcomes[ours]), records.right(outcomes[theirs]))
        else:
            yield own.above(other)


def _key(row: ResultRow) -> str:
    return row.model_dump_json(include={"attack", "norm", "eps", "directed_at", "options"})


def doubted(audit: Audit) -> str | None:
    """Which checks doubt an audit, in a sentence; None if none does."""
    names = [check.name for check in audit.checks if check.raised]
    if not names:
        return None
    doubt = "doubts" if len(names) == 1 else "doubt"
    of = wording.several(len(audit.checks), "check", "checks")
    return f"Of {of} of the audit, {len(names)} {doubt} its figures: {', '.join(names)}."


def short(rate: Rate) -> str:
    """An accuracy with one decimal, for prose."""
    return f"{rate.accuracy:.1f} %"
