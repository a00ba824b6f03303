"""The page of an audit that lies alone, without results: its verdict, its attacks and its checks."""

from __future__ import annotations

from pathlib import Path

from carso.audit.results import Audit, read_audit
from carso.errors import RunError
from carso.report import figures, wording
from carso.report.artifacts import turns_away
from carso.report.page import PAGE, render
from carso.report.verdict import doubted, short
from carso.storage.files import write_text
from carso.storage.folder import AUDIT
from carso.storage.schema import within


def write_audit(directory: Path, page: Path | None = None) -> Path:
    """Write the page of an audit, by default `report.html` in its folder, and return its path.

    Raises:
        RunError: if the audit is missing, damaged or of nothing, naming the file.
    """
    audit = read_audit(directory)
    if not audit.budgets:
        raise RunError(f"{within(directory, AUDIT)}: budgets: hold none; audit again")
    path = page or directory / PAGE
    context = {
        "audit": audit,
        "curve": figures.of_audit(audit),
        "turning": turns_away(audit),
        "headline": headline(audit),
        "doubts": doubted(audit) or f"None of {wording.several(len(audit.checks), 'check', 'checks')} is raised.",
    }
    write_text(path, render("audit.html", context))
    return path


def headline(audit: Audit) -> str:
    """What is left at each budget, in a sentence."""
    does = "is right on or turns away" if turns_away(audit) else "is right on"
    left = ", ".join(f"{short(b.worst_case)} at {wording.budget(b.norm, b.eps)}" for b in audit.budgets)
    clean = short(audit.budgets[0].clean)
    return f"Attacked as a whole, {audit.target} {does} {left}, of {audit.n:,} images; without attack, {clean}."
