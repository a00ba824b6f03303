"""Pages of figures, and the README's tables, say what their records say."""

from types import ModuleType

import pytest
from benchmarks.docs import experiments, reliability, results, speed


@pytest.mark.parametrize("writer", [experiments, reliability, results, speed], ids=lambda w: w.__name__.split(".")[-1])
def test_a_page_is_that_of_its_records(writer: ModuleType) -> None:
    assert writer.PAGE.read_text(encoding="utf-8") == writer.page(), f"run python -m {writer.__name__}"


def test_the_tables_of_the_readme_are_those_of_the_audits() -> None:
    text = results.README.read_text(encoding="utf-8")
    assert text == results.readme(text), "run python -m benchmarks.docs.results"


def test_the_thesis_is_not_set_beside_a_network_of_others() -> None:
    ours, theirs = (results.measured(results.RESULTS / name).rows for name in ("thesis", results.STRANGER))
    assert any(row.thesis for row in ours)
    assert not any(row.thesis for row in theirs)
