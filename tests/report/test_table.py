import io
import re

import pytest
from rich.console import Console

from carso.evaluation.environment import environment
from carso.evaluation.results import Rate, ResultRow, Results
from carso.report import wording
from carso.report.table import caption, markdown, print_table, terminal


def row(attack: str, eps: float, *correct: int | None, **fields: object) -> ResultRow:
    names = ("undefended", "adversarially_trained", "carso")
    rates = {name: None if c is None else Rate.of(c, 1000) for name, c in zip(names, correct, strict=True)}
    values = {"norm": None if attack == "none" else "Linf", "foreseen": True, "directed_at": "classifier", **fields}
    return ResultRow(attack=attack, eps=eps, **rates, **values)


@pytest.fixture
def results() -> Results:
    published = {"undefended": 6.85, "adversarially_trained": 71.26, "carso": 86.27}
    rows = [
        row("none", 0, 984, 971, 967, thesis={"undefended": 98.40, "adversarially_trained": 97.17, "carso": 96.72}),
        row("pgd", 0.3, 1, 711, 862, thesis=published),
        row("pgd", 0.5, 0, 120, 120, foreseen=False, thesis=published),
        row("fgsm", 0.3, 900, 950, 955, norm="L2", foreseen=False),
        row("pgd", 0.3, None, 710, 360, directed_at="defence"),
    ]
    return Results(recipe="thesis", seed=7, n=1000, environment=environment(), rows=rows)


def test_markdown_holds_every_figure_with_interval_and_publication(results: Results) -> None:
    text = markdown(results)
    assert "| 0.10 [0.02, 0.56] (6.85) |" in text
    for each in results.rows:
        for rate in each.rates().values():
            assert f"[{rate.ci95[0]:.2f}, {rate.ci95[1]:.2f}]" in text
    assert "seed 7, n = 1,000" in text


def test_a_defence_is_bold_only_where_its_interval_is_above_the_other(results: Results) -> None:
    bold = [re.findall(r"\*\*([\d.]+)\*\*", line) for line in markdown(results).splitlines() if line.startswith("| ")]
    assert [found for found in bold if found] == [["86.20"], ["71.00"]]


def test_protocols_stand_apart(results: Results) -> None:
    text = markdown(results)
    thesis, beyond, end_to_end = re.split(r"^### .*$", text, flags=re.MULTILINE)[1:]
    assert "36.00" in end_to_end
    assert "36.00" not in thesis + beyond
    assert "| FGSM L2 0.30 | no |" in beyond
    assert "n/a" in end_to_end


def test_the_terminal_shows_the_same_figures(results: Results) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(terminal(results))
    text = console.export_text()
    for figure in ("86.20 [83.92, 88.20] (86.27)", "Thesis protocol", "End to end", "FGSM L2 0.30", "n/a"):
        assert figure in text


def test_a_narrow_terminal_loses_no_figure(
    results: Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(results)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    for row in results.rows:
        for name, rate in row.rates().items():
            published = f" ({row.thesis[name]:.2f})" if row.thesis else ""
            assert f"{rate.accuracy:.2f}{published} " in printed
            assert f"[{rate.ci95[0]:.2f}, {rate.ci95[1]:.2f}] " in printed


@pytest.mark.parametrize("width", [77, 40])
def test_a_terminal_too_narrow_for_the_table_has_a_block_per_attack(
    results: Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(results)
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    assert "┃" not in text
    for row in results.rows:
        name = wording.attack(row)
        at = next(i for i, line in enumerate(lines) if line.startswith(name))
        block = " ".join(lines[at + 1 : at + 7])
        for rate in row.rates().values():
            assert f"{rate.accuracy:.2f} " in block
            assert f" [{rate.ci95[0]:.2f}, {rate.ci95[1]:.2f}]" in block


def test_a_star_stands_for_bold_where_nothing_can_be_bold(
    results: Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    print_table(results)
    text = " ".join(capsys.readouterr().out.split())
    assert "a star where the intervals of the defended columns do not overlap" in text
    assert "bold" not in text
    assert re.findall(r"\*([\d.]+)", text) == ["86.20", "71.00"]


def test_the_clean_row_of_a_run_that_nobody_attacked_stands_with_its_corruptions(results: Results) -> None:
    rows = [row("none", 0, 984, 971, 967), row("fog", 3, 900, 910, 920, norm="severity", foreseen=False)]
    nobodys = results.model_copy(update={"rows": rows})
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(terminal(nobodys))
    for text in (markdown(nobodys), console.export_text()):
        assert "No attack" in text
        assert "corruption" in text
        assert "On the classifier" not in text
        assert "crafted" not in text
    assert "| No attack | clean |" in markdown(nobodys)
    assert list(wording.groups([*rows, row("pgd", 0.3, 1, 711, 862)])) == ["own", "corruptions"]


def test_the_caption_calls_no_defence_a_recipe(results: Results) -> None:
    text = caption(results.model_copy(update={"recipe": "mnist"}))
    assert "Evaluated: mnist, seed 7" in text
    assert "Recipe" not in text
    assert text.endswith(", 1 thread.")


def test_what_stands_in_brackets_is_no_markup(results: Results) -> None:
    named = results.model_copy(update={"dataset": "pictures[/v2] [bold]"})
    console = Console(record=True, width=200)
    console.print(terminal(named))
    assert "pictures[/v2] [bold]" in console.export_text()
