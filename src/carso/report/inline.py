"""What results and audits look like in a notebook: HTML that brings its few styles along."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from carso.report import figures, table, wording
from carso.report.page import render

if TYPE_CHECKING:
    from carso.audit.results import Audit
    from carso.evaluation.results import Results


def results_html(results: Results) -> str:
    """The table, one part per protocol, each cell with its interval as a bar; then accuracy against the budget."""
    about = {"title": table.title(results), "caption": table.caption(results, published=False)}
    return render(
        "inline_results.html",
        about
        | {
            "columns": results.columns(),
            "hidden": bool(results.hidden),
            "heading": partial(wording.heading, adversarial=results.adversarial),
            "groups": wording.groups(results.rows, results.whole),
            "figures": figures.of_results(results),
        },
    )


def audit_html(audit: Audit) -> str:
    """The worst case of each budget as a curve, then every attack, and the checks that are raised."""
    curve = figures.of_audit(audit)
    return render("inline_audit.html", {"audit": audit, "figures": [curve] if curve else []})
