import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.report.conftest import Element

from carso.errors import RunError
from carso.evaluation.records import read_records
from carso.evaluation.results import Believed, Rate, read_results, write_results
from carso.report.comparison import compare
from carso.types import Budget

Read = Callable[[str], Element]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., Path]) -> list[Path]:
    parent = tmp_path_factory.mktemp("runs")
    return [build(parent / "first", seed=0), build(parent / "second", seed=1)]


def test_every_run_keeps_its_own_figures(runs: list[Path], read: Read) -> None:
    path = compare(runs)
    assert path == runs[0].parent / "comparison.html"
    page = read(path.read_text())
    for run in runs:
        rows = json.loads((run / "results.json").read_text())["rows"]
        expected = sorted(
            f"{row[c]['accuracy']:.2f}" for row in rows for c in ("undefended", "adversarially_trained", "carso")
        )
        cells = [cell for cell in page.all("td", "run") if cell.attributes["data-label"] == run.name]
        assert sorted(cell.all("span", "figure")[0].text for cell in cells) == expected
    assert len(page.get("curves").all("svg")) == 3


def test_a_row_that_one_run_lacks_is_said_to_be_missing(
    runs: list[Path], bare_run: Path, tmp_path: Path, read: Read
) -> None:
    page = read(compare([runs[0], bare_run], tmp_path / "page.html").read_text())
    missing = [cell for cell in page.all("td", "run") if cell.text == "not run"]
    assert {cell.attributes["data-label"] for cell in missing} == {bare_run.name}
    assert len(missing) == 3 * 3


def test_folders_of_one_name_are_told_apart(runs: list[Path], tmp_path: Path) -> None:
    for parent in ("a", "b"):
        (tmp_path / parent / "run").mkdir(parents=True)
        for name in ("results.json", "records.safetensors"):
            (tmp_path / parent / "run" / name).write_bytes((runs[0] / name).read_bytes())
    page = compare([tmp_path / "a" / "run", tmp_path / "b" / "run"]).read_text()
    assert 'data-label="a/run"' in page
    assert 'data-label="b/run"' in page


def test_one_run_or_the_same_twice_is_refused(runs: list[Path]) -> None:
    with pytest.raises(RunError, match="at least two"):
        compare(runs[:1])
    with pytest.raises(RunError, match="given twice"):
        compare([runs[0], runs[0]])


def variant(source: Path, folder: Path, correct: int, total: int) -> Path:
    """The run with another accuracy of CARSO in every row."""
    results = read_results(source)
    rows = [row.model_copy(update={"carso": Rate.of(correct, total)}) for row in results.rows]
    folder.mkdir()
    write_results(results.model_copy(update={"rows": rows}), folder)
    return folder


@pytest.mark.parametrize(("second", "bold"), [((700, 1000), 6), ((795, 1000), 0), ((70, 100), 0)])
def test_a_run_is_bold_only_where_its_interval_is_above_the_others(
    runs: list[Path], tmp_path: Path, read: Read, second: tuple[int, int], bold: int
) -> None:
    folders = [variant(runs[0], tmp_path / "a", 800, 1000), variant(runs[0], tmp_path / "b", *second)]
    page = read(compare(folders).read_text())
    best = [cell for cell in page.all("td", "best") if "ours" in cell.classes]
    assert [cell.attributes["data-label"] for cell in best] == ["a"] * bold
    assert ("intervals overlap" in page.all("h1")[0].text) == (bold == 0)


def test_other_numbers_of_images_are_said_in_cell_and_headline(runs: list[Path], tmp_path: Path, read: Read) -> None:
    folders = [variant(runs[0], tmp_path / "a", 800, 1000), variant(runs[0], tmp_path / "b", 70, 100)]
    page = read(compare(folders).read_text())
    assert "a: 80.0 % of 1,000; b: 70.0 % of 100" in page.all("h1")[0].text
    cells = [cell.all("span", "beside")[0].text for cell in page.all("td", "run") if "ours" in cell.classes]
    assert sorted(text.partition(" · ")[2] for text in cells) == ["n = 1,000"] * 6 + ["n = 100"] * 6
    assert not [cell for cell in page.all("th") if "n = 1,000" in cell.text]


def told(source: Path, folder: Path, believed: Believed | None = None, **fields: Any) -> Path:
    """The run with other things said of its rows under attack."""
    results = read_results(source)
    seen = [None if row.norm is None else believed for row in results.rows]
    given = [{} if row.norm is None else fields for row in results.rows]
    rows = [row.model_copy(update=f | {"believed": b}) for row, f, b in zip(results.rows, given, seen, strict=True)]
    folder.mkdir()
    write_results(results.model_copy(update={"rows": rows}), folder)
    return folder


def attacked_rows(page: Element) -> list[Element]:
    return [row for row in page.all("tr") if row.attributes.get("data-attack") == "pgd"]


@pytest.mark.parametrize(("second", "chip"), [(True, True), (False, False)])
def test_a_row_is_marked_only_as_all_runs_have_it(
    runs: list[Path], tmp_path: Path, read: Read, second: bool, chip: bool
) -> None:
    folders = [told(runs[0], tmp_path / "a", foreseen=True), told(runs[0], tmp_path / "b", foreseen=second)]
    for order in (folders, folders[::-1]):
        rows = attacked_rows(read(compare(order, tmp_path / "page.html").read_text()))
        assert rows
        assert {bool(row.all("span", "chip")) for row in rows} == {chip}


def test_what_was_turned_away_stands_with_the_run_that_did(runs: list[Path], tmp_path: Path, read: Read) -> None:
    away = {
        name: Believed(false_alarms=0.01, turned_away=Rate.of(n, 40), right=None) for name, n in (("a", 4), ("b", 30))
    }
    folders = [told(runs[0], tmp_path / name, believed) for name, believed in away.items()]
    page = read(compare(folders, tmp_path / "page.html").read_text())
    said = {"a": "10.00 % turned away", "b": "75.00 % turned away"}
    for row in attacked_rows(page):
        assert "turned away" not in row.all("th")[0].text
        for cell in row.all("td"):
            found = [name for name, text in said.items() if text in cell.text]
            assert found == ([cell.attributes["data-label"]] if "ours" in cell.classes else [])


def test_curves_of_other_norms_stand_apart(runs: list[Path], tmp_path: Path, read: Read) -> None:
    records = read_records(runs[1])
    curve = [
        r.model_copy(update={"row": r.row if r.row.norm is None else replace(r.row, budget=Budget("L2", r.row.eps))})
        for r in records.curve.values()
    ]
    records.curve = {record.row.key: record for record in curve}
    other = told(runs[1], tmp_path / "other")
    records.write(other)
    page = read(compare([runs[0], other], tmp_path / "page.html").read_text())
    figures = page.get("curves").all("figure")
    headings = [figure.all("h3")[0].text.partition(", n")[0] for figure in figures]
    columns = ("Undefended", "Adversarial training", "CARSO")
    assert headings == [f"{column}, PGD {norm}" for norm in ("L∞", "L2") for column in columns]
    assert [len(figure.all("li", "swatch")) for figure in figures] == [1] * 6


def test_a_network_that_is_not_known_to_be_trained_against_attacks_is_not_called_so(
    runs: list[Path], tmp_path: Path
) -> None:
    results = read_results(runs[0])
    (tmp_path / "plain").mkdir()
    write_results(results.model_copy(update={"adversarial": False}), tmp_path / "plain")
    page = compare([runs[0], tmp_path / "plain"]).read_text()
    assert "<h2>Classifier alone</h2>" in page
    assert "Adversarial" not in page


def test_a_run_of_nothing_is_named(runs: list[Path], tmp_path: Path) -> None:
    results = read_results(runs[0])
    write_results(results.model_copy(update={"rows": []}), tmp_path)
    with pytest.raises(RunError, match=r"results\.json: rows: hold no accuracy"):
        compare([runs[0], tmp_path])


def test_curves_of_another_run_are_left_out(runs: list[Path], tmp_path: Path, read: Read) -> None:
    for name, n in (("a", 40), ("b", 41)):
        (tmp_path / name).mkdir()
        shutil.copy(runs[0] / "records.safetensors", tmp_path / name)
        fields = json.loads((runs[0] / "results.json").read_text()) | {"n": n}
        (tmp_path / name / "results.json").write_text(json.dumps(fields))
    text = compare([tmp_path / "a", tmp_path / "b"]).read_text()
    assert "b: The records beside these results are of another run, of another number of images" in text
    assert "a: The records" not in text


def of_hidden(source: Path, folder: Path, **fields: list[str]) -> Path:
    """The run as if no classifier could be seen in some columns, or no gradient followed."""
    folder.mkdir()
    write_results(read_results(source).model_copy(update=fields), folder)
    return folder


def test_columns_that_hide_their_classifier_are_told_of(runs: list[Path], tmp_path: Path, read: Read) -> None:
    one, other = (of_hidden(run, tmp_path / run.name, hidden=["carso"], flat=["carso"]) for run in runs)
    page = read(compare([one, other]).read_text())
    assert "crafted on the whole of it, CARSO is right" in page.all("h1")[0].text
    for name in ("first", "second"):
        assert f"{name}: No classifier can be seen in CARSO" in page.text
        assert f"{name}: The gradient of CARSO is zero" in page.text
    assert "bare classifier, then" not in page.text
    mixed = read(compare([one, runs[1]], tmp_path / "mixed.html").read_text())
    assert "crafted on the classifier alone where one can be seen, CARSO" in mixed.all("h1")[0].text
    assert "second: No classifier" not in mixed.text


def test_columns_hidden_in_every_run_stand_under_their_own_title(runs: list[Path], tmp_path: Path, read: Read) -> None:
    hidden = ["undefended", "adversarially_trained", "carso"]
    folders = []
    for run in runs:
        results = read_results(run)
        bare = [row.model_copy(update={"thesis": None}) for row in results.rows]
        (tmp_path / run.name).mkdir()
        write_results(results.model_copy(update={"rows": bare, "hidden": hidden}), tmp_path / run.name)
        folders.append(tmp_path / run.name)
    page = read(compare(folders).read_text())
    titles = [heading.text for heading in page.all("h3")]
    assert titles.count("On the column itself") == 3
    assert "On the classifier" not in titles
    assert "first: No classifier can be seen in the undefended network" in page.text
