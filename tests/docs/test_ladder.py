"""docs/does-it-help.md and its figure tell the committed audits."""

from benchmarks.docs import ladder

from carso.audit import Audit
from carso.evaluation.results import Rate

HOW = "run python -m benchmarks.docs.ladder"


def test_the_page_and_its_figure_are_those_of_the_audits() -> None:
    assert ladder.PAGE.read_text(encoding="utf-8") == ladder.page(), HOW
    assert ladder.FIGURE.read_text(encoding="utf-8") == ladder.figure(), HOW


def test_points_are_told_apart_without_colours_and_purifiers_by_their_recipes() -> None:
    figure, behind = ladder.figure(), [each for rung in ladder.RUNGS for each in rung.behind]
    purifiers = [each for each in behind if each.name == "CARSO"]
    assert figure.count('<rect class="mark') == len(behind) - len(purifiers)
    assert all(f">{each.recipe}</text>" in figure for each in purifiers)
    assert len({each.recipe for each in purifiers}) == len(purifiers)


def test_what_is_called_higher_differs() -> None:
    rung = ladder.RUNGS[0]
    weak, (strong,) = rung.alone.audit, [each.audit for each in rung.behind if each.folder == "strong-audit/carso"]
    assert ladder.told(weak, strong, "the whole") == "the whole"
    assert ladder.told(strong, weak, "the whole") == "N alone"
    assert ladder.told(weak, weak, "the whole") == "not told apart"
    few, more = (_left(weak, correct) for correct in (33, 46))
    assert few.budgets[-1].worst_case.ci95[1] > more.budgets[-1].worst_case.ci95[0]
    assert ladder.told(few, more, "the whole") == "the whole"


def _left(audit: Audit, correct: int) -> Audit:
    """That audit, had it left so many of 56 images at its largest radius."""
    budget = audit.budgets[-1].model_copy(update={"worst_case": Rate.of(correct, 56)})
    return audit.model_copy(update={"budgets": [budget]})


def test_a_radius_that_was_not_tried_stays_empty() -> None:
    public = next(rung.alone.audit for rung in ladder.RUNGS if rung.alone.folder == "ladder/public-cnn")
    assert ladder.worst(public, ladder.SMALL) is None
    assert ladder.figures(public).split(" | ")[2] == ""
