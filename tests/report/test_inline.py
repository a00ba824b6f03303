import re
from pathlib import Path

from carso.audit.findings import read_audit
from carso.evaluation import read_results

AUDIT = Path(__file__).parents[2] / "benchmarks" / "results" / "thesis-audit" / "carso"


def test_results_show_every_rate_once(finished):
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


def test_results_escape_what_comes_from_outside(finished):
    results = read_results(finished).model_copy(update={"recipe": "<script>alert(1)</script>"})
    assert "<script>" not in results._repr_html_()


def test_an_audit_shows_its_worst_case_and_what_is_raised():
    audit = read_audit(AUDIT)
    html = audit._repr_html_()
    assert html.count("worst case") == len(audit.budgets)
    assert all(f"<b>{found.worst_case.accuracy:.2f}</b>" in html for found in audit.budgets)
    assert html.count('<td style="text-align:left">+ ') == sum(
        attack.on == "survivors" for found in audit.budgets for attack in found.attacks
    )
    assert "None of 13 checks is raised" in html
    doubted = audit.model_copy(update={"checks": [audit.checks[0].model_copy(update={"raised": True})]})
    assert "1 of 1 checks are raised" in doubted._repr_html_()
    assert audit.checks[0].meaning in doubted._repr_html_()
