from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch
from tests.comparison.conftest import network, other
from tests.efforts import resize
from typer.testing import CliRunner

from carso import rivals
from carso.audit import effort
from carso.audit.results import read_audit
from carso.commands.cli import app
from carso.comparison import Comparison, ComparisonStudy, Study, comparison, read_comparison, subjects
from carso.comparison.results import Figures
from carso.comparison.study import Ball
from carso.errors import CarsoError, RunError
from carso.rivals import files
from carso.storage import weights

pytestmark = pytest.mark.whole


def test_every_entry_has_the_figures_of_its_own_files(found: Comparison, run: ComparisonStudy) -> None:
    assert found == read_comparison(run.out)
    assert [line.name for line in found.entries] == list(run.study.entries)
    for line in found.entries:
        folder = run.out / line.name
        own, unforeseen = read_audit(folder), read_audit(folder / "unforeseen")
        assert [b.worst_case for b in line.audit.budgets] == [b.worst_case for b in own.budgets]
        assert [b.eps for b in own.budgets] == [0.1, 0.2]
        assert (unforeseen.budgets[0].norm, line.unforeseen.norm) == ("L2", "L2")
        assert line.unforeseen.budgets[0].worst_case == unforeseen.budgets[0].worst_case
        assert line.audit.n == own.n == (run.study.entries[line.name].images or 30)
        assert line.figures == Figures.read(folder)


def test_a_generator_that_is_taken_over_stands_before_another_classifier(
    found: Comparison, run: ComparisonStudy
) -> None:
    first, second = (rivals.load(run.out / name).state_dict() for name in ("gan", "gan-other"))
    for name, value in second.items():
        own = other().state_dict().get(name.removeprefix("classifier."))
        assert torch.equal(value, first[name] if own is None else own)
    assert not torch.equal(first["classifier.linear1.weight"], second["classifier.linear1.weight"])
    assert found.entries[3].figures.trained
    assert found.entries[4].figures.trained is None


def test_only_what_trains_its_network_moves_it(found: Comparison, run: ComparisonStudy) -> None:
    gan = rivals.load(run.out / "gan").state_dict()
    assert all(torch.equal(value, gan[f"classifier.{name}"]) for name, value in network().state_dict().items())
    trades = rivals.load(run.out / "trades").state_dict()
    assert not torch.equal(trades["linear1.weight"], gan["classifier.linear1.weight"])


def test_a_recipe_is_trained_as_by_its_own_verb(found: Comparison, run: ComparisonStudy, tmp_path: Path) -> None:
    recipe = run.study.entries["schooled"].recipe
    result = CliRunner().invoke(app, ["train", "classifier", str(recipe), "--out", str(tmp_path), "--device", "cpu"])
    assert result.exit_code == 0
    own, alone = (weights.load_classifier(folder / weights.CLASSIFIER) for folder in (run.out / "schooled", tmp_path))
    assert weights.digest(own) == weights.digest(alone)


def test_the_training_of_a_recipe_is_timed_unless_it_was_begun_before(
    found: Comparison, run: ComparisonStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found.entries[1].figures.trained == replace(run)._subjects.seconds("schooled") > 0
    pending = subjects.Subjects.pending
    monkeypatch.setattr(
        subjects.Subjects, "pending", lambda self, name: [replace(each, done=1) for each in pending(self, name)]
    )
    again = replace(run, out=tmp_path)._subjects
    again.of("schooled")
    assert again.seconds("schooled") is None


def test_noise_for_gradients_is_seen_by_the_audit(found: Comparison) -> None:
    line = found.entries[-1]
    assert "wrong-gradients" in line.audit.checks
    assert "wrong-gradients" not in found.entries[0].audit.checks


def test_what_is_done_is_not_done_again(
    found: Comparison, run: ComparisonStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((subjects, "fit"), (comparison, "audit"), (comparison, "measured")):
        monkeypatch.setattr(module, name, lambda *args, **options: pytest.fail("done again"))
    assert replace(run).carry_out().entries == found.entries
    assert replace(run).carry_out(["bare"]).entries == found.entries


@pytest.mark.parametrize(("processes", "units"), [(2, [["gan"], ["gan", "gan-other"]]), (3, [])])
def test_processes_share_entries_where_there_are_enough(
    found: Comparison, run: ComparisonStudy, monkeypatch: pytest.MonkeyPatch, processes: int, units: list[list[str]]
) -> None:
    divided: list[list[str]] = []
    monkeypatch.setattr(comparison, "count", lambda: processes)
    monkeypatch.setattr(comparison, "divided", lambda some, work: divided.append(some) or [])
    assert replace(run).carry_out(["gan", "gan-other"]).entries == found.entries
    assert divided == units


@pytest.mark.parametrize("change", [{"seed": 1}, {"images": 10}])
def test_other_settings_need_another_folder(found: Comparison, run: ComparisonStudy, change: dict[str, int]) -> None:
    with pytest.raises(RunError, match="choose another --out"):
        replace(run, **change).carry_out(["bare"])


@pytest.mark.parametrize("change", [{"seed": 1}, {"images": 10}])
def test_weights_of_other_settings_are_not_taken_over(
    found: Comparison, run: ComparisonStudy, tmp_path: Path, change: dict[str, int]
) -> None:
    copytree(run.out / "gan", tmp_path / "gan")
    with pytest.raises(RunError, match="gan holds another study, seed, number of images or audit"):
        replace(run, out=tmp_path, **change).carry_out(["gan-other"])


def test_the_table_is_of_one_study_alone(
    found: Comparison, run: ComparisonStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bare", "schooled"):
        copytree(run.out / name, tmp_path / name)
    (tmp_path / "bare" / "entry.json").write_text("{}")
    assert [line.name for line in replace(run, out=tmp_path).carry_out(["schooled"]).entries] == ["schooled"]
    assert "number of images or audit: bare" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: resize(patch, "quick", restarts=(1, 2)),
        lambda patch: patch.setattr(effort, "ATTACKS", effort.ATTACKS + 1),
        lambda patch: patch.setattr(effort, "SPARSE", (0.5,)),
    ],
)
def test_an_audit_by_other_attacks_is_not_taken_for_today_s(
    found: Comparison,
    run: ComparisonStudy,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[pytest.MonkeyPatch], None],
) -> None:
    change(monkeypatch)
    assert replace(run)._line("bare", run.study.entries["bare"]) is None
    with pytest.raises(RunError, match="choose another --out"):
        replace(run).carry_out(["bare"])


@pytest.mark.parametrize(
    ("change", "images", "message"),
    [
        ({}, 61, "has 60 images, fewer than the 61 asked for"),
        ({"images": 61}, None, "has 60 images, fewer than the 61 asked for"),
        ({"eps": (0.1, 2.0)}, None, r"eps must lie in \(0, 1\] for Linf, not 2"),
        ({"unforeseen": Ball(norm="L2", eps=7.0, images=6, effort="quick")}, None, r"in \(0, 6\] for L2, not 7"),
    ],
)
def test_what_the_images_do_not_allow_is_refused_before_anything_is_written(
    study: Study, tmp_path: Path, change: dict[str, object], images: int | None, message: str
) -> None:
    run = ComparisonStudy(study.model_copy(update=change), tmp_path / "out", torch.device("cpu"), images=images)
    with pytest.raises(CarsoError, match=message):
        run.carry_out(["trades"])
    assert not run.out.exists()


def test_as_many_images_as_chosen_entries_ask_for_are_enough(
    found: Comparison, run: ComparisonStudy, tmp_path: Path
) -> None:
    copytree(run.out / "bare", tmp_path / "bare")
    other = run.study.entries["trades"].model_copy(update={"images": 61})
    like = run.study.model_copy(update={"entries": {**run.study.entries, "trades": other}})
    assert replace(run, study=like, out=tmp_path).carry_out(["bare"]).entries == found.entries[:1]


def test_a_training_is_not_gone_on_with_on_other_images(
    run: ComparisonStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    first, other = (replace(run, out=tmp_path)._subjects for _ in range(2))
    train, held_out = first._sets
    vars(other)["_sets"] = (train[torch.arange(len(train)).flip(0)], held_out)
    with monkeypatch.context() as patch:
        patch.setattr(files, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            first.of("trades")
    with pytest.raises(RunError, match=r"belongs to another recipe, seed, classifier or data"):
        other.of("trades")
    first.of("trades")


def test_weights_for_the_attacker_count_for_nothing(found: Comparison, run: ComparisonStudy) -> None:
    gan = rivals.load(run.out / "gan")
    parts = sum(weight.numel() for part in (gan.classifier, gan.generator) for weight in part.parameters())
    assert found.entries[3].figures.weights == parts


def test_the_words_of_an_entry_may_change(found: Comparison, run: ComparisonStudy) -> None:
    bare = run.study.entries["bare"].model_copy(update={"about": "Another word."})
    reworded = run.study.model_copy(update={"entries": {**run.study.entries, "bare": bare}})
    assert replace(run, study=reworded).carry_out(["bare"]).entries[0].about == "Another word."


def test_an_interrupted_training_goes_on(
    found: Comparison, run: ComparisonStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, calls = subjects.fit, []

    def stopped(stage, *rest):  # type: ignore[no-untyped-def]
        calls.append(stage.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(stage, *rest)

    monkeypatch.setattr(subjects, "fit", stopped)
    again = replace(run, out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        again._subjects.of("gan")
    again._subjects.of("gan")
    assert calls == ["wgan", "encoder", "wgan", "encoder"]
    for name, value in rivals.load(tmp_path / "gan").state_dict().items():
        assert torch.equal(value, rivals.load(run.out / "gan").state_dict()[name])
    assert files.read(tmp_path / "gan")[1].seconds is None
    assert not list((tmp_path / "gan" / "checkpoints").iterdir())


def test_the_audit_that_ships_is_taken_where_it_asked_the_same(study: Study, tmp_path: Path) -> None:
    shipped = read_audit(weights.find("mnist"))
    entry = study.entries["bare"].model_copy(update={"target": "mnist"})
    asked = {"eps": tuple(each.eps for each in shipped.budgets), "effort": shipped.effort}
    for eps, taken in ((asked["eps"], True), ((0.2,), False)):
        like = study.model_copy(update={**asked, "eps": eps})
        run = ComparisonStudy(like, tmp_path / str(taken), torch.device("cpu"), seed=shipped.seed)
        run._take_shipped_audit(entry, run.out / "carso")
        assert (run.out / "carso" / "audit.json").exists() == taken
        run._take_shipped_audit(entry.model_copy(update={"randomised": ("decoder",)}), run.out / "noisy")
        assert not (run.out / "noisy").exists()


def test_one_rival_by_name_on_the_command_line(
    study: Study, found: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carso.comparison.read_study", lambda name: study)
    out = str(tmp_path / "out")
    result = CliRunner().invoke(
        app, ["reproduce", "rivals/bare", "--out", out, "--test-images", "12"], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "report.html" in result.output
    assert [(line.name, line.audit.n) for line in read_comparison(Path(out)).entries] == [("bare", 12)]


@pytest.mark.parametrize("option", [["--pretrained"], ["--samples", "3"], ["--stop", "never"]])
def test_options_that_mean_nothing_here_are_refused(option: list[str], tmp_path: Path) -> None:
    with pytest.raises(CarsoError, match=f"{option[0]} is not for rivals"):
        CliRunner().invoke(app, ["reproduce", "rivals", "--out", str(tmp_path), *option], catch_exceptions=False)
