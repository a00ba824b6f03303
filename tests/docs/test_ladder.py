"""docs/does-it-help.md and its figure tell the committed audits."""

from benchmarks.docs import ladder

HOW = "run python -m benchmarks.docs.ladder"


def test_the_page_and_its_figure_are_those_of_the_audits() -> None:
    assert ladder.PAGE.read_text(encoding="utf-8") == ladder.page(), HOW
    assert ladder.FIGURE.read_text(encoding="utf-8") == ladder.figure(ladder.rungs()), HOW


def test_what_is_called_higher_lies_apart() -> None:
    audits = {rung.alone: (rung, alone, behind) for rung, alone, behind in ladder.rungs()}
    rung, alone, behind = audits["strong-audit/adversarially_trained"]
    assert behind is not None
    assert ladder.told(alone, behind, rung.what) == "CARSO"
    assert ladder.told(behind, alone, "the other") == "N alone"
    assert ladder.told(alone, alone, rung.what) == "not told apart"
