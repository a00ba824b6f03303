"""An audit on terminals of any width: names can be told apart, and no figure is cut."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from carso.audit.results import Audit
from carso.evaluation.results import Rate
from carso.report import terminal

NAMES = "pgd-annealed", "pgd-annealed-other", "pgd-log-mean-probability", "transfer-classifier", "transfer-undefended"


@pytest.fixture
def named(audit: Audit) -> Audit:
    """One with names that begin alike, and with a figure of two lines."""
    (found,) = audit.budgets
    attack, left_out = found.attacks
    known = attack.model_copy(update={"known": Rate.of(1, 4)})
    attacks = [known.model_copy(update={"name": name, "on": "survivors", "seconds": 640.0}) for name in NAMES]
    budget = found.model_copy(update={"attacks": [*attacks, left_out], "strongest": NAMES[0]})
    return audit.model_copy(update={"budgets": [budget]})


@pytest.fixture
def printed(named: Audit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[int], str]:
    """What a pipe gets, of so many columns."""

    def of(width: int) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        terminal.print_audit(named)
        return capsys.readouterr().out

    return of


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (120, ["attack", "kind", "images", "leaves (%)", "time"]),
        (80, ["attack", "images", "leaves (%)", "time"]),
        (65, ["attack", "images", "leaves (%)"]),
        (40, ["attack", "leaves (%)"]),
    ],
)
def test_columns_go_before_names_and_figures_are_cut(
    printed: Callable[[int], str], width: int, columns: list[str]
) -> None:
    text = printed(width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    (head,) = (line for line in lines if "leaves (%)" in line)
    assert [word.strip() for word in head.strip("┃").split("┃")] == columns
    cells = [line.strip("│").split("│") for line in lines if line.startswith("│")]
    told = "".join(cell[0].replace(" ", "") for cell in cells)
    assert told == "*" + "".join(f"+{name}" for name in NAMES) + "autoattack"
    assert sum("0.0 [0.0, 49.0] " in line for line in lines) == len(NAMES)
    assert sum("latents known 25.0 " in line for line in lines) == len(NAMES)


def test_the_strongest_is_bold_only_where_anything_can_be(
    named: Audit, printed: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = printed(120)
    assert "bold" not in text
    assert "*: strongest alone" in text
    console = Console(width=120, record=True, file=io.StringIO(), force_terminal=True, color_system="standard")
    monkeypatch.setattr(terminal, "Console", lambda **_: console)
    terminal.print_audit(named)
    assert "bold: strongest alone" in console.export_text()
