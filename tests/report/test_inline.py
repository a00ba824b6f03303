from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from tests.report.conftest import Element

from carso.audit.results import Turned, read_audit
from carso.data import Dataset
from carso.evaluation import Rate, ResultRow, Results, Row, Settings, evaluate, read_results
from carso.evaluation.environment import environment
from carso.evaluation.results import Believed
from carso.nn import MLP
from carso.report import figures
from carso.types import Budget

AUDIT = Path(__file__).parents[2] / "benchmarks" / "results" / "thesis-audit" / "carso"


def test_results_show_every_rate_once(finished: Path) -> None:
    results = read_results(finished)
    html = results._repr_html_()
    shown = re.findall(r"(\d+\.\d\d)(?:</b>)? <small>(\[[^\]]+\])", html)
    expected = [
        (f"{rate.accuracy:.2f}", f"[{rate.ci95[0]:.2f}, {rate.ci95[1]:.2f}]")
        for aim in ("classifier", "defence")
        for row in results.rows
        if row.directed_at == aim
        for rate in row.rates().values()
    ]
    assert sorted(shown) == sorted(expected)
    assert html.index("Thesis protocol") < html.index("End to end")


def test_results_escape_what_comes_from_outside(finished: Path) -> None:
    results = read_results(finished).model_copy(update={"recipe": "<script>alert(1)</script>"})
    assert "<script>" not in results._repr_html_()


def test_an_audit_shows_its_worst_case_and_what_is_raised() -> None:
    audit = read_audit(AUDIT)
    html = audit._repr_html_()
    assert html.count(">worst case</th>") == len(audit.budgets)
    assert all(f"<b>{found.worst_case.accuracy:.2f}</b>" in html for found in audit.budgets)
    assert html.count('<td style="text-align:left">+ ') == sum(
        attack.on == "survivors" for found in audit.budgets for attack in found.attacks
    )
    assert f"None of {len(audit.checks)} checks is raised" in html
    doubted = audit.model_copy(update={"checks": [audit.checks[0].model_copy(update={"raised": True})]})
    assert "1 of 1 checks are raised" in doubted._repr_html_()
    assert audit.checks[0].meaning in doubted._repr_html_()


def test_what_was_turned_away_is_told(finished: Path) -> None:
    audit = read_audit(AUDIT)
    assert "turned away" not in audit._repr_html_()
    none, some = (Believed(false_alarms=0.01, turned_away=Rate.of(k, 4), right=None) for k in (0, 3))
    turning = audit.budgets[0].model_copy(update={"turned_away": Turned(clean=none, attacked=some)})
    html = audit.model_copy(update={"budgets": [turning]})._repr_html_()
    assert "right or turned away (%)" in html
    assert "Worst images: 75.0 [30.1, 95.4] % turned away, none believed." in html
    results = read_results(finished)
    assert "turned away" not in results._repr_html_()
    results = results.model_copy(update={"rows": [results.rows[0].model_copy(update={"believed": some})]})
    assert "75.00 % turned away, no image believed" in results._repr_html_()


def dots(html: str) -> list[str]:
    """What the dots of a page's charts say of themselves."""
    return re.findall(r"<circle[^>]*><title>([^<]*)</title>", html)


def test_results_are_drawn_as_they_are_listed(finished: Path, read: Callable[[str], Element]) -> None:
    results = read_results(finished)
    html = results._repr_html_()
    charts = [chart.attributes["aria-label"] for chart in read(html).all("svg")]
    assert charts == [
        "FGSM L∞ on the classifier, n = 40",
        "PGD L∞ on the classifier, n = 40",
        "FGSM L2 on the classifier, n = 40",
        "PGD L∞ on the defence, n = 40",
    ]
    clean, attacked = results.rows[0].carso, results.rows[-1].carso
    for eps, rate in (("0", clean), ("0.3", attacked)):
        low, high = rate.ci95
        assert f"CARSO at {eps}: {rate.accuracy:.4g} [{low:.4g}, {high:.4g}]" in dots(html)


def test_points_of_other_numbers_of_images_are_not_joined() -> None:
    rates = [("none", None, 0, 100), ("pgd", "Linf", 0.1, 10), ("pgd", "Linf", 0.3, 10)]
    rows = [
        ResultRow(attack=a, norm=norm, eps=eps, foreseen=False, directed_at="classifier", carso=Rate.of(5, n))
        for a, norm, eps, n in rates
    ]
    shown = figures.of_results(Results(recipe="r", seed=0, n=100, environment=environment(), rows=rows))
    assert [figure.heading for figure in shown] == ["PGD L∞ on the classifier, n = 10"]
    assert [text.partition(":")[0] for text in dots(shown[0].chart)] == ["CARSO at 0.1", "CARSO at 0.3"]


def test_an_audit_is_drawn_worst_case_beside_transfer() -> None:
    audit = read_audit(AUDIT)
    said = dots(audit._repr_html_())
    for name, rates in (
        ("worst case of all attacks", [found.worst_case for found in audit.budgets]),
        ("images made for its classifier", [found.find("transfer-classifier").result for found in audit.budgets]),
    ):
        assert [text for text in said if text.startswith(name)] == [
            f"{name} at {eps:g}: {rate.accuracy:.4g} [{rate.ci95[0]:.4g}, {rate.ci95[1]:.4g}]"
            for eps, rate in zip((0, 0.15, 0.3), [audit.budgets[0].clean, *rates], strict=True)
        ]


def test_styles_of_a_view_touch_nothing_outside_it(finished: Path) -> None:
    styles = re.findall(r"<style>(.*?)</style>", read_results(finished)._repr_html_(), re.DOTALL)
    for style in styles:
        assert re.fullmatch(r"\s*\.carso-inline \{.*\}\s*", style, re.DOTALL)
        assert style.count("{") == style.count("}")
    assert len(styles) == 1


def test_a_curve_is_of_one_norm() -> None:
    torch.manual_seed(0)
    dataset = Dataset("noise", torch.rand(12, 1, 4, 4), torch.arange(12) % 3, tuple("abc"))
    balls = [Budget("Linf", 0.1), Budget("L2", 1.0), Budget("Linf", 0.2), Budget("L2", 2.0)]
    points = (Row("none"), *(Row("fgsm", ball) for ball in balls))
    columns = {"adversarially_trained": MLP((1, 4, 4), (6,), 3).eval()}
    settings = Settings(curve_images=12, sweep_images=0)
    linf, l2 = figures.against_eps(evaluate(columns, dataset, points[:1], settings, curve_rows=points))
    assert ("L∞" in linf.heading, "L2" in l2.heading) == (True, True)
    assert [row[0] for row in linf.body] == ["0", "0.1", "0.2"]
    assert [row[0] for row in l2.body] == ["0", "1", "2"]
