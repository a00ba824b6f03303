"""What results, audits and recollections look like in a notebook: HTML that brings its few styles along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carso.report import pictures, table, wording
from carso.report.page import render

if TYPE_CHECKING:
    from carso.audit.findings import Audit
    from carso.evaluation.results import Results
    from carso.recollections import Recollections


def results_html(results: Results) -> str:
    """The table, one part per protocol, each cell with its interval as a bar."""
    about = {"title": table.title(results), "caption": table.caption(results)}
    return render(
        "inline_results.html",
        about | {"columns": results.columns(), "groups": wording.groups(results.rows)},
    )


def audit_html(audit: Audit) -> str:
    """The worst case of each budget, every attack, and the checks that are raised."""
    return render("inline_audit.html", {"audit": audit})


def recollections_html(shown: Recollections) -> str:
    """A row per image: itself, what is recalled, the mean, and the shares of the vote as bars."""
    rows = [
        {
            "image": pictures.picture(shown.images[i].cpu()),
            "candidates": pictures.strip(shown.candidates[i].cpu()),
            "mean": pictures.picture(shown.mean[i].cpu()),
            "winner": int(shown.tally.winners[i]),
            "votes": int(shown.tally.samples[i]),
            "shares": [round(100 * share, 1) for share in shown.tally.shares[i].tolist()],
        }
        for i in range(len(shown.images))
    ]
    return render("inline_recollections.html", {"rows": rows, "shown": shown.candidates.shape[1]})
