"""The page of an audit alone tells its worst cases, its attacks and its checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from carso.audit import Audit, read_audit
from carso.commands import cli
from carso.errors import RunError
from carso.report.audited import write_audit
from carso.report.comparison import compare
from carso.storage import weights


@pytest.fixture(scope="module")
def audit() -> Audit:
    """The one that ships with `mnist-thesis`."""
    return read_audit(weights.find("mnist-thesis"))


def test_every_figure_of_it_is_there(audit: Audit, tmp_path: Path) -> None:
    audit.write(tmp_path)
    answer = CliRunner().invoke(cli.app, ["report", str(tmp_path)])
    assert answer.exit_code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    headline = re.sub("<.*?>", "", page.split("<h1>")[1].split("</h1>")[0])
    assert headline == (
        "Attacked as a whole, carso is right on 72.2 % at L∞ 0.15, 1.4 % at L∞ 0.30, of 500 images; "
        "without attack, 95.8 %."
    )
    assert "<p>None of 15 checks is raised.</p>" in page
    for budget in audit.budgets:
        assert all(attack.name in page and f"{attack.result.accuracy:.2f}" in page for attack in budget.attacks)
    assert all(f"<dt>{check.name} " in page for check in audit.checks)


def test_what_is_raised_is_said_above(audit: Audit, tmp_path: Path) -> None:
    checks = [check.model_copy(update={"raised": check.name == "zero-gradients"}) for check in audit.checks]
    audit.model_copy(update={"checks": checks}).write(tmp_path)
    page = write_audit(tmp_path, tmp_path / "else.html").read_text(encoding="utf-8")
    assert "<p>Of 15 checks of the audit, 1 doubts its figures: zero-gradients.</p>" in page


def test_an_audit_of_nothing_has_no_page(audit: Audit, tmp_path: Path) -> None:
    audit.model_copy(update={"budgets": []}).write(tmp_path)
    with pytest.raises(RunError, match="hold none"):
        write_audit(tmp_path)


def test_audits_alone_are_not_compared(audit: Audit, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
        audit.write(folder)
    with pytest.raises(RunError, match=r"one: holds an audit and no results; `carso report .*one` shows it"):
        compare(folders)
