"""The pages of studies say what their records say."""

from benchmarks.docs import ablations, comparison
from benchmarks.docs.comparison import ROOT

from carso.ablations import read_ablations
from carso.ablations import read_study as read_ablations_study
from carso.ablations.results import judged
from carso.audit import read_audit
from carso.comparison import NAMES, read_comparison, read_study
from carso.comparison.page import MARGIN, left, standing


def test_the_verdicts_on_the_thesis_are_those_of_the_figures_and_of_the_rule_of_today() -> None:
    found = read_ablations(ablations.RESULTS)
    assert judged(read_ablations_study(), found) == found, "run python -m benchmarks.docs.ablations"


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
        assert all(
            f"| `{each.name}`<br><small>carso reproduce {study}/{each.name}</small> |" in page for each in found.entries
        )


def test_the_other_images_are_for_n_and_for_those_that_keep_most_of_the_digits() -> None:
    found, other = read_comparison(comparison.RESULTS), read_comparison(comparison.OTHER)
    apart = [line.name for line in found.entries if line.name.startswith("fiwagr-") or "contrast" in line.name]
    kept = {line.name: left(line, "Linf", 0.3) for line in found.entries if line.name not in apart}
    many = {line.name for line in found.entries if line.audit.n >= 200}
    ranked = sorted((name for name in kept if kept[name] and name in many), key=lambda name: -kept[name].accuracy)
    assert {line.name for line in other.entries} == {"undefended", "adversarial", *ranked[:4]}


def test_a_network_alone_costs_one_of_itself() -> None:
    for name in NAMES:
        entries = read_study(name).entries
        found = comparison.reworded(read_comparison(ROOT / "benchmarks" / "results" / name)).entries
        costs = [line.figures.of_n for line in found if entries[line.name].alone]
        assert costs
        assert set(costs) == {1.0}
        assert all(line.figures.of_n > 1 for line in found if not entries[line.name].alone)


def test_nothing_is_left_above_the_literature_undoubted() -> None:
    for name in NAMES:
        found = comparison.reworded(read_comparison(ROOT / "benchmarks" / "results" / name))
        standings = [(p.left, standing(line, p)) for line in found.entries for p in line.published]
        assert all(stands != "higher" for _, stands in standings)
        assert all(stands is not None for adaptive, stands in standings if adaptive is not None)


def test_every_rival_that_is_known_to_be_weak_is_broken_or_doubted() -> None:
    study = read_study()
    found = [line for line in read_comparison(comparison.RESULTS).entries if line.name in study.entries]
    rivals = {
        line.name: line for line in found if (spec := study.entries[line.name].rival) and spec.kind != "classifier"
    }
    assert len(rivals) == 14
    for line in rivals.values():
        assert line.audit.checks or line.audit.budgets[-1].worst_case.accuracy <= MARGIN, line.name


def test_the_slope_of_an_ended_descent_takes_more_than_bpda_as_the_pages_say() -> None:
    at_smaller, at_larger = read_audit(comparison.RESULTS / "defense-gan").budgets
    slope, bpda = (at_smaller.find(name) for name in ("pgd-annealed", "bpda"))
    assert slope is not None
    assert bpda is not None
    assert slope.result.accuracy < bpda.result.accuracy
    assert bpda.result.accuracy > 50
    step, cross = (at_larger.find(name) for name in ("fgsm", "bpda"))
    assert step is not None
    assert cross is not None
    assert step.result.accuracy == cross.result.accuracy > at_larger.worst_case.accuracy
    assert at_larger.worst_case.correct == 0
    (line,) = (line for line in read_comparison(comparison.RESULTS).entries if line.name == "defense-gan")
    assert [each.worst_case for each in line.audit.budgets] == [at_smaller.worst_case, at_larger.worst_case]
