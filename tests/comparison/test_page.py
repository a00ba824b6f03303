from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.docs import comparison as document

from carso.comparison import Comparison, ComparisonStudy
from carso.comparison.page import certified, checks, compared, each, on_n, standing, trained, weakest, write_page
from carso.comparison.results import Certified, CertifiedRow
from carso.comparison.study import Place, Published
from carso.evaluation.results import Rate
from carso.report.wording import brief


def test_the_page_shows_every_figure(found: Comparison, run: ComparisonStudy) -> None:
    page = (run.out / "report.html").read_text().replace("\u00a0", " ")
    for line in found.entries:
        assert f'data-entry="{line.name}"' in page
        for budget in (*line.audit.budgets, *line.unforeseen.budgets):
            assert brief(budget.worst_case) in page
        assert (row := weakest(line)) is not None
        assert brief(row.result) in page
        assert each(line) in page
        assert f"<code>carso reproduce rivals/{line.name}</code>" in page
    assert "55 % left" in page
    assert "wrong-gradients" in page
    assert page.count("Attacks on N, weakest row") == 1
    assert "Last column" not in page


def test_the_weakest_row_is_within_the_radius(found: Comparison) -> None:
    for line in found.entries:
        rows = [each for each in line.figures.protocol if 0 < each.eps <= 0.3]
        assert (row := weakest(line)) is not None
        assert row.result.accuracy == min(each.result.accuracy for each in rows)


def test_where_every_row_lies_beyond_the_radius_none_is_shown(found: Comparison, tmp_path: Path) -> None:
    line = found.entries[0]
    far = [row for row in line.figures.protocol if row.norm is None or row.eps > 0.2]
    line = line.model_copy(update={"figures": line.figures.model_copy(update={"protocol": far})})
    assert weakest(line) is None
    assert on_n(line) == ""
    alone = found.model_copy(update={"entries": [line]})
    assert "not run" in write_page(alone, tmp_path).read_text()
    assert "| none of 16 |  |" in document.audits(alone)


@pytest.mark.parametrize(
    ("seconds", "of_n", "shown"), [(2e-5, 1.2, "20 µs (1 N)"), (0.25, 4000.4, "250.0 ms (4,000 N)")]
)
def test_times_are_in_units_that_suit_them(found: Comparison, seconds: float, of_n: float, shown: str) -> None:
    figures = found.entries[0].figures.model_copy(update={"seconds": seconds, "of_n": of_n, "trained": 83.0})
    line = found.entries[0].model_copy(update={"figures": figures})
    assert each(line) == shown
    assert trained(line) == "1 min 23 s"
    assert trained(found.entries[0]) == ""


def test_the_page_of_the_docs_has_every_figure(found: Comparison) -> None:
    page = document.page(found, found)
    for line in found.entries:
        shown = " | ".join(brief(b.worst_case) for b in (*line.audit.budgets, *line.unforeseen.budgets))
        named = f"`{line.name}`<br><small>carso reproduce rivals/{line.name}</small>"
        assert f"| {named} | {brief(line.audit.budgets[0].clean)} | {shown} |" in page
    assert "55 % left" in page


@pytest.mark.parametrize(
    ("correct", "doubts", "stands", "words"),
    [
        (12, [], "not told apart", ": not told apart"),
        (11, [], "not higher", ": not higher"),
        (17, ["wrong-gradients"], "not told apart", ": not told apart"),
        (18, ["wrong-gradients"], "higher, doubted", ": higher, doubted (wrong-gradients)"),
        (18, [], "higher", ": higher"),
    ],
)
def test_ours_is_held_against_the_literature(
    found: Comparison, correct: int, doubts: list[str], stands: str, words: str
) -> None:
    line, rate = found.entries[0], Rate.of(correct, 30)
    budget = line.audit.budgets[1].model_copy(update={"worst_case": rate})
    audit = line.audit.model_copy(update={"budgets": [line.audit.budgets[0], budget], "checks": doubts})
    line = line.model_copy(update={"audit": audit})
    published = Published(says="x", source="y", left=55.0, beside=Place(norm="Linf", eps=0.2))
    assert standing(line, published) == stands
    assert compared(line, published) == f"{brief(rate)} at L∞ 0.20{words}"
    for other in ({"left": None}, {"beside": None}, {"beside": Place(norm="L1", eps=0.2)}):
        assert compared(line, published.model_copy(update=other)) == ""


def test_certificates_are_shown_where_there_are_any(found: Comparison) -> None:
    line = found.entries[0]
    assert certified(line) == ""
    assert "certified in L2" not in document.page(found, found)
    rows = [CertifiedRow(eps=0.25, result=Rate.of(90, 100)), CertifiedRow(eps=0.5, result=Rate.of(40, 100))]
    figures = line.figures.model_copy(update={"certified": Certified(samples=10_000, alpha=0.001, rows=rows)})
    found = found.model_copy(update={"entries": [line.model_copy(update={"figures": figures}), *found.entries[1:]]})
    shown = f"{brief(rows[0].result)} at 0.25, {brief(rows[1].result)} at 0.50 (n = 100; 10,000 votes of each"
    assert f"Right and certified in L2, for `bare`: {shown}" in " ".join(document.page(found, found).split())


def test_attacks_on_n_say_their_images_where_the_audit_had_others(found: Comparison) -> None:
    line = found.entries[0]
    assert "n =" not in on_n(line)
    assert on_n(line.model_copy(update={"audit": line.audit.model_copy(update={"n": 2000})})).endswith(" (n = 30)")


def test_what_the_audit_of_the_other_norm_doubts_is_shown_too(found: Comparison) -> None:
    line = found.entries[0]
    doubted = line.unforeseen.model_copy(update={"checks": ["not-converged-in-restarts"]})
    shown = checks(line.model_copy(update={"unforeseen": doubted}))
    assert shown.endswith("; in L2 also not-converged-in-restarts")
    assert checks(line).startswith(
        (f"none of {line.audit.made}", f"{', '.join(line.audit.checks)} of {line.audit.made}")
    )
    assert ";" not in checks(line.model_copy(update={"unforeseen": line.unforeseen.model_copy(update={"checks": []})}))
