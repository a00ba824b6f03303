"""What results, audits and recollections look like in a notebook: HTML that brings its few styles along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carso.report import charts, figures, pictures, table, wording
from carso.report.page import render

if TYPE_CHECKING:
    from markupsafe import Markup

    from carso.audit.results import Audit
    from carso.evaluation.results import Results
    from carso.report.recollections import Recollections


def results_html(results: Results) -> str:
    """The table, one part per protocol, each cell with its interval as a bar; then accuracy against the budget."""
    about = {"title": table.title(results), "caption": table.caption(results, published=False)}
    return render(
        "inline_results.html",
        about
        | {
            "columns": results.columns(),
            "groups": wording.groups(results.rows),
            "figures": figures.of_results(results),
        },
    )


def audit_html(audit: Audit) -> str:
    """The worst case of each budget as a curve, then every attack, and the checks that are raised."""
    curve = figures.of_audit(audit)
    return render("inline_audit.html", {"audit": audit, "figures": [curve] if curve else []})


def recollections_html(shown: Recollections) -> str:
    """A row per image: itself, what is recalled, the mean, and the shares of the vote as bars."""
    rows = [
        {
            "image": pictures.picture(shown.images[i].cpu()),
            "candidates": pictures.strip(shown.candidates[i].cpu()),
            "mean": pictures.picture(shown.mean[i].cpu()),
            "winner": int(shown.tally.winners[i]),
            "votes": int(shown.tally.samples[i]),
            "chart": _vote(shown.tally.shares[i].tolist(), int(shown.tally.winners[i])),
        }
        for i in range(len(shown.images))
    ]
    return render("inline_recollections.html", {"rows": rows, "shown": shown.candidates.shape[1]})


def _vote(shares: list[float], elected: int) -> Markup:
    title = f"Vote shares; class {elected} is elected with {shares[elected]:.0%}"
    return charts.votes(title, shares, [f"{label}" for label in range(len(shares))], elected)
