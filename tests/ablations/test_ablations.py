from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch
from benchmarks.docs import ablations as document
from typer.testing import CliRunner

from carso import attacks
from carso.ablations import Ablations, AblationStudy, Study, read_ablations
from carso.ablations.results import judged, open_variant, tabulated
from carso.commands.cli import app
from carso.errors import DataError, RunError
from carso.evaluation import Row, examples, read_records, read_results
from carso.evaluation.seeding import generator_of
from carso.storage import weights
from carso.training import experiment
from carso.training.recipe import Recipe
from carso.training.studies import parsed
from carso.types import Budget
from carso.vote import mean_logit

pytestmark = pytest.mark.whole

STUDY = """
base: thesis
images: 24
variants:
  clean: {about: No attack in either training., recipe: {adversarial: {attacks: []}, purification: {attacks: []}}}
  purifier-only: {about: Only the purifier., recipe: {adversarial: {attacks: []}}}
  narrow: {about: One hidden layer., recipe: {purifier: {widths: interpolated, hidden: 1}}}
  bare:
    about: No pre-encoders, and squares.
    recipe: {purifier: {widths: uncompressed}, purification: {reconstruction: l2}}
  one: {about: One candidate., intervention: {samples: 1}}
  same: {about: As many as the base., intervention: {samples: 30}}
  mean: {about: The mean logit., intervention: {aggregation: mean-logit}}
  noise: {about: Noise., intervention: {code: noise}}
statements:
  - {says: As many as the base do better., place: here, claims: [{of: [same], relation: above, rows: clean}]}
  - {says: Noise does no better than a code., place: here, claims: [{of: [noise], relation: not-above, rows: clean}]}
  - {says: Noise tells less than a code., place: here, claims: [{of: [noise], relation: below, rows: clean}]}
  - {says: It is beautiful., place: here, reason: no figure shows it}
"""

BALL = Budget("Linf", 0.1)
ROWS = (
    Row("none", foreseen=True),
    Row("fgsm", BALL, foreseen=True),
    Row("pgd-eot", BALL, directed_at="defence", options={"steps": 2}),
)


@pytest.fixture(autouse=True, scope="module")
def few_rows() -> Iterator[None]:
    """Three attacks are enough to see that all are the same for every variant."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AblationStudy, "rows", ROWS)
        yield


@pytest.fixture(scope="module")
def study() -> Study:
    return parsed(STUDY, Study)


@pytest.fixture(scope="module")
def run(few_rows: None, study: Study, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> AblationStudy:
    return AblationStudy(study, recipe, tmp_path_factory.mktemp("study"), torch.device("cpu"), 24, "never", "carso ...")


@pytest.fixture(scope="module")
def crafted() -> list[str]:
    """The attacks that were made, in order."""
    return []


@pytest.fixture(scope="module")
def found(run: AblationStudy, crafted: list[str]) -> Ablations:
    made = examples.AdversarialExamples.__call__

    def noted(self, row, *rest):  # type: ignore[no-untyped-def]
        crafted.append(row.key)
        return made(self, row, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples.AdversarialExamples, "__call__", noted)
        return run.carry_out()


def test_every_variant_has_its_figures_beside_the_bases(found: Ablations, run: AblationStudy) -> None:
    assert found == read_ablations(run.out)
    assert [variant.name for variant in found.variants] == list(run.study.variants)
    base = read_results(run.out)
    for variant in found.variants:
        own = read_results(run.out / variant.name)
        for row, mine, original in zip(variant.rows, own.rows, base.rows, strict=True):
            assert (row.accuracy, row.n, row.ci95) == (mine.carso.accuracy, mine.carso.total, mine.carso.ci95)
            assert row.base.accuracy == original.carso.accuracy
            assert row.classifier.accuracy == mine.adversarially_trained.accuracy
            assert row.seed == run.recipe.seed


def test_too_many_images_are_refused_before_anything_is_written(run: AblationStudy, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 60 images, fewer than the 61 asked for"):
        replace(run, out=tmp_path / "out", images=61).carry_out(["one"])
    assert not (tmp_path / "out").exists()


def test_as_many_candidates_are_the_base_itself(found: Ablations, run: AblationStudy) -> None:
    for key, record in read_records(run.out).rows.items():
        same = read_records(run.out / "same").rows[key]
        assert torch.equal(same.outcomes["carso"].counts, record.outcomes["carso"].counts)


def test_verdicts_follow_from_the_figures(found: Ablations, run: AblationStudy) -> None:
    assert [statement.verdict for statement in found.statements] == [
        "not testable",
        "confirmed",
        "confirmed",
        "not testable",
    ]
    assert found.statements[3].reason
    assert judged(run.study, found) == found


def test_a_classifier_that_several_share_is_trained_once(found: Ablations, run: AblationStudy) -> None:
    files = {name: (run.out / name / weights.CLASSIFIER) for name in ("clean", "purifier-only", "narrow")}
    assert files["purifier-only"].read_bytes() == files["clean"].read_bytes()
    assert files["narrow"].read_bytes() == (run.out / weights.CLASSIFIER).read_bytes()
    assert files["narrow"].read_bytes() != files["clean"].read_bytes()
    assert "adversarial training" not in (run.out / "narrow" / "history.json").read_text()


def test_attacked_images_are_made_once_where_they_are_the_same(
    found: Ablations, run: AblationStudy, crafted: list[str]
) -> None:
    undefended, classifiers, defences = 1, 2, 6
    for row in ROWS:
        times = classifiers + undefended if row.directed_at == "classifier" else defences + undefended + classifiers
        assert crafted.count(row.key) == times, row.key


def test_an_aggregation_under_attack_is_that_of_the_candidates_by_hand(found: Ablations, run: AblationStudy) -> None:
    defence, test = run.base.defence(), run._test[:24]
    row = ROWS[1]
    attacked = attacks.fgsm(defence.classifier, test.images, test.labels, BALL)
    logits = defence.logits(attacked, 30, generator=generator_of(0, row.key, "vote", 0))
    predicted = read_records(run.out / "mean").rows[row.key].outcomes["carso"].predicted
    assert torch.equal(predicted.long(), mean_logit(logits).argmax(1))


def test_what_is_done_is_not_done_again(found: Ablations, run: AblationStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "fit", lambda *args: pytest.fail("trained again"))
    monkeypatch.setattr(examples.AdversarialExamples, "__call__", lambda *args: pytest.fail("attacked again"))
    assert replace(run).carry_out().variants == found.variants
    assert [v.name for v in replace(run).carry_out(["one"]).variants] == list(run.study.variants)


def test_other_images_need_another_folder(found: Ablations, run: AblationStudy) -> None:
    with pytest.raises(RunError, match="choose another folder"):
        replace(run, images=12).carry_out(["one"])


def test_a_variant_of_another_change_is_neither_gone_on_with_nor_shown(
    found: Ablations, run: AblationStudy, tmp_path: Path
) -> None:
    name, variant = next((name, each) for name, each in run.study.variants.items() if each.intervention is not None)
    copytree(run.out, tmp_path / "run")
    (tmp_path / "run" / name / "change.json").write_text("{}")
    with pytest.raises(RunError, match="holds a variant with another change"):
        open_variant(variant, tmp_path / "run" / name)
    shown = [each.name for each in tabulated(run.study, tmp_path / "run").variants]
    assert shown == [each.name for each in found.variants if each.name != name]


def test_the_page_shows_every_variant_and_every_verdict(found: Ablations, run: AblationStudy) -> None:
    page = (run.out / "report.html").read_text()
    for variant in found.variants:
        assert f'data-variant="{variant.name}"' in page
        for row in variant.rows:
            assert f"[{row.ci95[0]:.2f}, {row.ci95[1]:.2f}]" in page
    assert all(statement.says in page for statement in found.statements)
    assert "2 confirmed, 0 refuted, 2 not testable" in page


@pytest.fixture
def carso(study: Study, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The command line, for which the small study is the one that ships."""
    monkeypatch.setattr("carso.ablations.read_study", lambda: study)
    monkeypatch.setattr("carso.training.reading.read_recipe", lambda name: recipe)

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["reproduce", *arguments], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    return call


def test_one_ablation_by_name(carso: Callable[..., str], tmp_path: Path) -> None:
    said = carso("ablations/one", "--out", str(tmp_path), "--seed", "3")
    assert "the first 24 test images" in said
    assert "report.html" in said
    found = read_ablations(tmp_path)
    assert [variant.name for variant in found.variants] == ["one"]
    assert (found.seed, found.n) == (3, 24)
    assert [statement.verdict for statement in found.statements] == ["not testable"] * 4


def test_the_page_of_the_docs_has_every_figure(found: Ablations) -> None:
    page = document.page(found)
    for variant in found.variants:
        first, *rest = (document.cell(row) for row in variant.rows)
        assert f"| `{variant.name}` | {first} | {rest[0]} |" in page
        assert f"| `{variant.name}` | {rest[1]} |" in page
    assert page.count("**confirmed**") == 2
    assert found.command in page
