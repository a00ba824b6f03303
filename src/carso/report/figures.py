"""From records to charts: curves over eps and over K, confusion, votes needed, training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from markupsafe import Markup

from carso.audit.results import Audit
from carso.evaluation.records import Records, RowRecord
from carso.evaluation.results import TARGETS, Rate, ResultRow, Results, Target
from carso.report import charts, wording
from carso.report.artifacts import Epoch, turns_away
from carso.report.charts import Axis, Box, Point, Series
from carso.report.verdict import hardest, subject
from carso.types import Norm, Scale

SHADES = ("carso", "adversarially_trained", "undefended", "fourth", "fifth", "sixth")
"""Classes of the style sheet for lines that are no column of the table, from most to least prominent."""


@dataclass(frozen=True)
class Figure:
    """A chart with its heading, legend of (style, name), and the figures it shows as a table."""

    heading: str
    chart: Markup
    legend: tuple[tuple[str, str], ...] = ()
    header: tuple[str, ...] = ()
    body: tuple[tuple[str, ...], ...] = ()


def against_eps(records: Records) -> list[Figure]:
    """Accuracy against the budget, one figure per aim and norm."""
    found = []
    for aim, attack, norm in _kinds(records):
        ordered = _curved(records, aim, attack, norm)
        outcomes = ordered[0].outcomes
        series = [_curve(records, ordered, column, _style(column, i)) for i, column in enumerate(outcomes)]
        series += [_unharmed(records, ordered, column) for column, one in outcomes.items() if one.accepted is not None]
        n = len(next(iter(ordered[0].outcomes.values())).predicted)
        aimed = "the whole defence" if aim == "defence" else wording.met(outcomes, records.hidden)
        heading = f"{wording.name_of(attack)} {wording.NORMS[norm]} aimed at {aimed}, n = {n:,}"
        found.append(_figure(heading, _eps_axis(ordered[-1].row.eps), series, "eps"))
    return found


def of_results(results: Results, aims: Sequence[Target] = TARGETS, box: Box = charts.SMALL) -> list[Figure]:
    """Accuracy against the budget from the table's own rows: one figure per attack, norm and aim."""
    clean = next((row for row in results.rows if row.norm is None), None)
    attacks: dict[tuple[str, Norm, Target], list[ResultRow]] = defaultdict(list)
    for row in results.rows:
        if row.norm is not None and row.norm != "severity" and row.rates() and row.directed_at in aims:
            attacks[row.attack, row.norm, row.directed_at].append(row)
    found = []
    for (attack, norm, aim), rows in attacks.items():
        n = wording.count(rows[0])
        first = [clean] if clean is not None and wording.count(clean) == n else []
        ordered = first + sorted(rows, key=lambda row: row.eps)
        rates = {column: [(r.eps, r.rates()[column]) for r in ordered if column in r.rates()] for column in _all(rows)}
        series = [
            Series(wording.heading(column, results.adversarial), _style(column, i), [_point(*pair) for pair in pairs])
            for i, (column, pairs) in enumerate(rates.items())
        ]
        on = "column itself" if results.whole and aim == "classifier" else aim
        heading = f"{wording.name_of(attack)} {wording.NORMS[norm]} on the {on}, n = {n:,}"
        found.append(_plain(heading, ordered[-1].eps, series, box))
    return found


def of_audit(audit: Audit) -> Figure | None:
    """What an audit leaves at every budget, beside what images made for the bare classifier leave."""
    if not audit.budgets:
        return None
    worst = [(budget.eps, budget.worst_case) for budget in audit.budgets]
    lines = {("carso", "worst case of all attacks"): worst}
    blind = [(b.eps, a.result) for b in audit.budgets for a in b.attacks if a.name == "transfer-classifier"]
    if len(blind) == len(worst):
        lines["adversarially_trained", "images made for its classifier"] = blind
    clean = (0.0, audit.budgets[0].clean)
    series = [Series(name, style, [_point(*p) for p in [clean, *pairs]]) for (style, name), pairs in lines.items()]
    against = f"{wording.measure(turning=True).capitalize()}, against" if turns_away(audit) else "Against"
    heading = f"{against} {wording.NORMS[audit.budgets[0].norm]} budgets, n = {audit.n:,}"
    return _plain(heading, worst[-1][0], series, charts.LARGE)


def compared(runs: Mapping[str, Records], adversarial: bool = True) -> list[Figure]:
    """Accuracy against the budget of the bare classifier's attack: a figure per column and attack, a line per run."""
    lines: dict[tuple[str, str, Scale], dict[str, list[RowRecord]]] = defaultdict(dict)
    for name, records in runs.items():
        for aim, attack, norm in _kinds(records):
            rows = _curved(records, aim, attack, norm)
            for column in rows[0].outcomes if aim == "classifier" else ():
                lines[column, attack, norm][name] = rows
    found = []
    for (column, attack, norm), curves in lines.items():
        series = [
            replace(_curve(runs[name], rows, column, SHADES[i % len(SHADES)]), name=name)
            for i, (name, rows) in enumerate(curves.items())
        ]
        if len({tuple(p.x for p in one.points) for one in series}) == 1:
            counts = {len(rows[0].outcomes[column].predicted) for rows in curves.values()}
            n = f", n = {counts.pop():,}" if len(counts) == 1 else ""
            heading = f"{wording.heading(column, adversarial)}, {wording.name_of(attack)} {wording.NORMS[norm]}{n}"
            found.append(_figure(heading, _eps_axis(series[0].points[-1].x), series, "eps"))
    return found


def _kinds(records: Records) -> list[tuple[Target, str, Scale]]:
    """Aim, attack and norm of every curve, in order."""
    rows = [record.row for record in records.curve.values()]
    return list(dict.fromkeys((row.directed_at, row.attack, row.norm) for row in rows if row.norm))


def _curved(records: Records, aim: Target, attack: str, norm: Scale) -> list[RowRecord]:
    """The points of one aim, attack and norm by their budget, after the clean one."""
    rows = [record for record in records.curve.values() if record.row.directed_at == aim]
    ours = [r for r in rows if r.row.norm is None or (r.row.attack, r.row.norm) == (attack, norm)]
    return sorted(ours, key=lambda record: record.row.eps)


def against_votes(records: Records) -> Figure | None:
    """Accuracy against K, one line per row."""
    if not records.sweeps:
        return None
    series = []
    for shade, swept in zip(SHADES, records.sweeps.values(), strict=False):
        rates = [records.rate_of(predicted) for predicted in swept.predicted]
        points = [_point(k, rate) for k, rate in zip(swept.samples.tolist(), rates, strict=True)]
        series.append(Series(wording.named(swept.row), shade, points))
    most = max(point.x for one in series for point in one.points)
    axis = Axis("votes K", 1, most, [k for k in (1, 10, 100, 1000) if k <= most], log=True)
    images = next(iter(records.sweeps.values())).predicted.shape[1]
    return _figure(f"Accuracy of the first K votes, n = {images:,}", axis, series, "K")


def votes_needed(records: Records) -> Figure | None:
    """How many votes the images of each row took."""
    rows, most = [], 1.0
    for record in records.rows.values():
        if (taken := records.votes_taken(record)) is not None:
            rows.append((wording.named(record.row), taken))
            most = max(most, taken.max)
    if not rows:
        return None
    axis = Axis("votes until decided", 1, max(most, 20), [k for k in (1, 10, 100, 1000) if k <= most], log=True)
    heading = "Votes until decided"
    chart = charts.strips(heading, axis, [(label, u.low, u.median, u.high, u.max) for label, u in rows])
    body = tuple((label, *(f"{v:g}" for v in (u.mean, u.low, u.median, u.high, u.max))) for label, u in rows)
    return Figure(heading, chart, (), ("row", "mean", "10 %", "median", "90 %", "most"), body)


def confusion(records: Records, results: Results) -> list[tuple[str, list[Figure]]]:
    """Confusion of every column, without attack and under the hardest row of the verdict."""
    worst = hardest(results.rows, subject(results))
    found = []
    for record in records.rows.values():
        row = record.row
        same = (row.attack, row.norm, row.eps, row.directed_at) == (worst.attack, worst.norm, worst.eps, "classifier")
        if row.attack in ("none", worst.attack) and (row.budget is None or same):
            found.append((wording.named(row), [_confusion(records, record, column) for column in record.outcomes]))
    return found


def training(history: Sequence[Epoch]) -> list[tuple[str, list[Figure]]]:
    """A small chart per stage and metric."""
    stages = groupby(sorted(history, key=lambda e: e.stage), key=lambda e: e.stage)
    by_stage = {stage: sorted(epochs, key=lambda e: e.epoch) for stage, epochs in stages}
    order = dict.fromkeys(epoch.stage for epoch in history)
    return [(stage, _metrics(by_stage[stage])) for stage in order]


def _metrics(epochs: Sequence[Epoch]) -> list[Figure]:
    names = dict.fromkeys(name for epoch in epochs for name in epoch.metrics())
    return [_metric(name, epochs) for name in names]


def _metric(name: str, epochs: Sequence[Epoch]) -> Figure:
    known = [(epoch.epoch, epoch.metrics()[name]) for epoch in epochs if name in epoch.metrics()]
    across = [t for t in charts.ticks(known[0][0], known[-1][0], 4) if t == int(t) and t <= known[-1][0]]
    up = charts.ticks(min(v for _, v in known), max(v for _, v in known), 4)
    x = Axis("epoch", known[0][0], max(known[-1][0], known[0][0] + 1), across)
    words = name.replace("_", " ")
    points = [Point(epoch, value, value, value) for epoch, value in known]
    chart = charts.lines(words, x, Axis("", up[0], up[-1], up), [Series(words, "carso", points)], charts.SMALL)
    return Figure(words, chart)


def _figure(heading: str, axis: Axis, series: list[Series], symbol: str) -> Figure:
    legend = tuple((one.style, one.name) for one in series)
    header = (symbol, *(one.name for one in series))
    columns = [[f"{p.y:.2f} [{p.low:.2f}, {p.high:.2f}]" for p in one.points] for one in series]
    body = tuple((f"{p.x:g}", *cells) for p, *cells in zip(series[0].points, *columns, strict=True))
    return Figure(heading, charts.lines(heading, axis, charts.PERCENT, series), legend, header, body)


def _plain(heading: str, most: float, series: list[Series], box: Box) -> Figure:
    chart = charts.lines(heading, _eps_axis(most), charts.PERCENT, series, box)
    return Figure(heading, chart, tuple((one.style, one.name) for one in series))


def _all(rows: Sequence[ResultRow]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row.rates()))


def _curve(records: Records, rows: list[RowRecord], column: str, style: str) -> Series:
    points = [_point(record.row.eps, records.rate(record.outcomes[column])) for record in rows]
    return Series(wording.heading(column, records.adversarial), style, points)


def _unharmed(records: Records, rows: list[RowRecord], column: str) -> Series:
    points = [_point(record.row.eps, records.unharmed(record.outcomes[column])) for record in rows]
    return Series(f"{wording.heading(column, records.adversarial)}, right or turned away", SHADES[3], points)


def _eps_axis(most: float) -> Axis:
    return Axis("eps", 0, most, [t for t in charts.ticks(0, most) if t <= most])


def _style(column: str, index: int) -> str:
    return column if column in wording.HEADINGS else SHADES[min(index, len(SHADES) - 1)]


def _point(x: charts.Number, rate: Rate) -> Point:
    return Point(x, rate.accuracy, *rate.ci95)


def _confusion(records: Records, record: RowRecord, column: str) -> Figure:
    outcome = record.outcomes[column]
    name = wording.heading(column, records.adversarial)
    heading = f"{name}: {records.rate(outcome).accuracy:.2f} %"
    title = f"Confusion of {name}, {wording.named(record.row)}"
    return Figure(heading, charts.heatmap(title, records.confusion(outcome).tolist(), records.classes))
