"""The pages of studies say what their records say."""

from benchmarks.docs import ablations, comparison
from benchmarks.docs.comparison import ROOT

from carso.ablations import read_ablations
from carso.audit import read_audit
from carso.comparison import NAMES, read_comparison, read_study


def test_the_page_of_ablations_is_that_of_its_records() -> None:
    page = ablations.page(read_ablations(ablations.RESULTS))
    assert ablations.PAGE.read_text(encoding="utf-8") == page, "run python -m benchmarks.docs.ablations"


def test_the_page_of_rivals_is_that_of_its_records() -> None:
    page = comparison.page(read_comparison(comparison.RESULTS), read_comparison(comparison.OTHER))
    assert comparison.PAGE.read_text(encoding="utf-8") == page, "run python -m benchmarks.docs.comparison"


def test_every_rival_of_the_study_is_in_the_table_or_named_as_missing() -> None:
    page = comparison.PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for study in NAMES for name in read_study(study).entries)
    for study in NAMES:
        found = read_comparison(ROOT / "benchmarks" / "results" / study)
        assert found.study == study
        assert all(f"`carso reproduce {study}/{line.name}`" in page for line in found.entries)


def test_the_slope_of_an_ended_descent_takes_more_than_bpda_as_the_pages_say() -> None:
    at_smaller, at_larger = read_audit(comparison.RESULTS / "defense-gan").budgets
    slope, bpda = (at_smaller.find(name) for name in ("pgd-annealed", "bpda"))
    assert slope is not None
    assert bpda is not None
    assert slope.result.accuracy < bpda.result.accuracy
    assert bpda.result.accuracy > 50
    assert at_larger.worst_case.correct == 0
    (line,) = (line for line in read_comparison(comparison.RESULTS).entries if line.name == "defense-gan")
    assert [each.worst_case for each in line.audit.budgets] == [at_smaller.worst_case, at_larger.worst_case]
