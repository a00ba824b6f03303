import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carso.errors import RunError
from carso.evaluation.environment import environment
from carso.evaluation.results import FILE, Rate, ResultRow, Results, read_results, write_results


def results() -> Results:
    clean = ResultRow(
        attack="none", norm=None, eps=0, foreseen=True, directed_at="classifier", carso=Rate.of(96, 100), seconds=1.5
    )
    attacked = ResultRow(
        attack="pgd",
        norm="Linf",
        eps=0.3,
        foreseen=True,
        directed_at="classifier",
        undefended=Rate.of(0, 100),
        adversarially_trained=Rate.of(71, 100),
        carso=Rate.of(86, 100),
        thesis={"undefended": 6.85, "adversarially_trained": 71.26, "carso": 86.27},
        others={"stranger": Rate.of(50, 100)},
    )
    return Results(recipe="thesis", seed=3, n=100, environment=environment(), rows=[clean, attacked])


def test_the_file_has_exactly_the_promised_names(tmp_path: Path) -> None:
    path = write_results(results(), tmp_path)
    assert path == tmp_path / "results.json"
    fields = json.loads(path.read_text())
    assert {"recipe", "seed", "n", "environment", "rows"} <= set(fields)
    clean, attacked = fields["rows"]
    named = {"attack", "norm", "eps", "foreseen", "directed_at", "undefended", "adversarially_trained", "carso"}
    assert named <= set(clean)
    assert (clean["attack"], clean["norm"], clean["eps"], clean["undefended"]) == ("none", None, 0, None)
    assert set(attacked["carso"]) == {"correct", "total", "accuracy", "ci95"}
    assert attacked["carso"]["accuracy"] == 86
    assert attacked["carso"]["ci95"][0] < 86 < attacked["carso"]["ci95"][1]
    assert {"python", "torch", "platform", "cpu", "threads", "carso"} <= set(fields["environment"])


def test_reads_back_what_it_wrote_from_file_or_folder(tmp_path: Path) -> None:
    path = write_results(results(), tmp_path)
    assert read_results(path) == read_results(tmp_path) == results()
    assert results().columns() == ["undefended", "adversarially_trained", "carso", "stranger"]


def test_unknown_fields_beside_the_named_ones_survive(tmp_path: Path) -> None:
    path = write_results(results(), tmp_path)
    fields = json.loads(path.read_text())
    fields["note"] = "beside"
    fields["rows"][0]["extra"] = 1
    path.write_text(json.dumps(fields))
    again = read_results(path).model_dump()
    assert again["note"] == "beside"
    assert again["rows"][0]["extra"] == 1


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda f: f.pop("seed"), "seed"),
        (lambda f: f["rows"][1]["carso"].pop("total"), r"rows\[1\].carso.total"),
        (lambda f: f["rows"][1]["carso"].update(accuracy="high"), r"rows\[1\].carso.accuracy"),
        (lambda f: f["rows"][1]["carso"].update(accuracy=12.0), r"rows\[1\].carso.*86 of 100"),
        (lambda f: f["rows"][1]["carso"].update(correct=101), r"rows\[1\].carso.*more than total"),
        (lambda f: f["rows"][1].update(directed_at="nobody"), r"rows\[1\].directed_at"),
        (lambda f: f["rows"][0].update(eps=0.1), r"rows\[0\]"),
    ],
)
def test_names_the_file_and_the_field_that_is_wrong(tmp_path: Path, spoil: Callable[[Any], object], field: str) -> None:
    path = write_results(results(), tmp_path)
    fields = json.loads(path.read_text())
    spoil(fields)
    path.write_text(json.dumps(fields))
    with pytest.raises(RunError, match=f"results.json: {field}"):
        read_results(path)


def test_a_missing_or_broken_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"results.json: cannot be read: No such file"):
        read_results(tmp_path)
    (tmp_path / FILE).write_text('{"recipe": ')
    with pytest.raises(RunError, match="is not JSON"):
        read_results(tmp_path)
