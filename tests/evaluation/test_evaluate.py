from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tests.evaluation.test_models import Rounded, Straight
from torch import Tensor, nn

from carso import attacks
from carso.attacks.deepfool import minimal_perturbation
from carso.attacks.objective import is_random
from carso.corruptions import CORRUPTIONS, corrupt
from carso.data.dataset import Dataset
from carso.errors import DataError, RunError
from carso.evaluation import Records, Row, Settings, evaluate, examples, models, read_records, read_results
from carso.evaluation.models import Models
from carso.evaluation.protocol import CORRUPTED
from carso.evaluation.records import FILE, RowRecord
from carso.evaluation.seeding import generator_of
from carso.types import Budget, Severity

CLEAN = Row("none", foreseen=True)
FGSM = Row("fgsm", Budget("Linf", 0.2), thesis={"undefended": 1.0, "adversarially_trained": 2.0, "carso": 3.0})
PGD = Row("pgd", Budget("Linf", 0.2), options={"steps": 3, "alpha": 0.1})
DEEPFOOL = [Row("deepfool", Budget("Linf", eps), options={"steps": 5}) for eps in (0.1, 0.2)]
END_TO_END = replace(PGD, directed_at="defence", eot=2)
ROWS = (CLEAN, FGSM, PGD, *DEEPFOOL, END_TO_END)
SETTINGS = Settings(curve_images=20, sweep_images=10, chunk=20)
PARTS = {"curve_rows": (CLEAN, PGD), "sweep_rows": (PGD,)}


def same(first: RowRecord, second: RowRecord) -> bool:
    """Whether two row records hold the same answers."""
    pairs = ((first.outcomes[name], second.outcomes[name]) for name in first.outcomes)
    return all(
        torch.equal(a.predicted, b.predicted) and (a.counts is None or torch.equal(a.counts, b.counts))
        for a, b in pairs
    )


@pytest.fixture
def records(columns: Models, dataset: Dataset) -> Records:
    return evaluate(columns, dataset, ROWS, SETTINGS, recipe="tiny", **PARTS)


def test_the_figures_are_those_of_attack_and_answer_by_hand(
    records: Records, columns: Models, dataset: Dataset
) -> None:
    """Undefended under its own FGSM; N and CARSO under N's."""
    for name, model in (
        ("undefended", columns["undefended"]),
        ("adversarially_trained", columns["adversarially_trained"]),
    ):
        attacked = attacks.fgsm(model, dataset.images, dataset.labels, Budget("Linf", 0.2))
        expected = model(attacked).argmax(1)
        assert torch.equal(records.rows[FGSM.key].outcomes[name].predicted.long(), expected)
    votes = generator_of(0, FGSM.key, "vote", 0)
    tally = columns["carso"].poll(attacked[:20], generator=votes)
    assert torch.equal(records.rows[FGSM.key].outcomes["carso"].counts[:20].long(), tally.counts)


@pytest.mark.parametrize("given", [Dataset.in_turns, lambda lying: lying, lambda lying: lying.shuffled(3)])
def test_images_in_another_order_keep_their_places(
    given: Callable[[Dataset], Dataset], columns: Models, dataset: Dataset, tmp_path: Path
) -> None:
    order = dataset.labels.argsort()
    lying = Dataset("lying", dataset.pixels[order], dataset.labels[order], dataset.classes)
    some = replace(SETTINGS, n=30)
    evaluate(columns, given(lying), (CLEAN,), some, curve_rows=(), sweep_rows=(), directory=tmp_path)
    found = read_records(tmp_path)
    shown = found.rows[CLEAN.key].gallery
    for index, clean in zip(shown.index.tolist(), shown.clean, strict=True):
        assert torch.equal(lying.images[found.place(index)], clean)
    assert len(found.places) == 30


def test_large_images_are_attacked_fewer_at_a_time(
    records: Records, columns: Models, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = importlib.import_module("carso.evaluation.evaluate")
    assert [evaluation.chunk_of(shape) for shape in ((1, 28, 28), (3, 32, 32), (3, 224, 224))] == [1000, 1000, 27]
    monkeypatch.setattr(evaluation, "VALUES", 20 * 36)
    found = evaluate(columns, dataset, ROWS, replace(SETTINGS, chunk=None), recipe="tiny", **PARTS)
    assert found.fingerprint == records.fingerprint
    assert found.settings["chunk"] == 20
    assert all(same(found.rows[key], record) for key, record in records.rows.items())


def test_results_are_the_records_in_figures(records: Records, dataset: Dataset) -> None:
    results = records.results()
    assert (results.recipe, results.seed, results.n, len(results.rows)) == ("tiny", 0, 50, 6)
    for row, record in zip(results.rows, records.rows.values(), strict=True):
        for name, rate in row.rates().items():
            assert rate.correct == int((record.outcomes[name].predicted == dataset.labels).sum())
            assert rate.total == 50
    assert results.settings["n"] == 50
    assert (results.settings["samples"], results.settings["stop"]) == (60, "confident")
    assert results.rows[1].thesis == dict(FGSM.thesis)
    assert results.rows[5].directed_at == "defence"
    assert results.rows[5].options["eot"] == 2
    assert 20 <= results.rows[1].samples_used["mean"] <= 60


def test_a_corruption_is_the_same_for_every_column_and_a_pose_is_each_ones_worst(
    columns: Models, dataset: Dataset
) -> None:
    fog, pose = Row("fog", Severity(3)), Row("spatial", Severity(2), directed_at="defence", options={"shifts": 3})
    found = evaluate(columns, dataset, (CLEAN, fog, pose), SETTINGS, curve_rows=(), sweep_rows=())
    whole = replace(SETTINGS, chunk=50)
    once = evaluate(columns, dataset, (fog,), whole, curve_rows=(), sweep_rows=()).rows[fog.key]
    foggy = corrupt(dataset.images, "fog", 3, generator_of(0, fog.key, "attack", 0))
    for name in ("undefended", "adversarially_trained"):
        assert torch.equal(once.outcomes[name].predicted.long(), columns[name](foggy).argmax(1))
        turned = attacks.spatial(columns[name], dataset.images, dataset.labels, Severity(2), shifts=3)
        assert torch.equal(found.rows[pose.key].outcomes[name].predicted.long(), columns[name](turned).argmax(1))
    assert found.results().corrupted
    assert [(row.attack, row.norm, row.eps) for row in found.results().rows[1:]] == [
        ("fog", "severity", 3),
        ("spatial", "severity", 2),
    ]


def test_attacks_and_corruptions_are_tables_of_their_own(columns: Models, dataset: Dataset, tmp_path: Path) -> None:
    fog, none = Row("fog", Severity(3)), {"curve_rows": (), "sweep_rows": ()}
    with pytest.raises(RunError, match="attacks and corruptions are tables of their own"):
        evaluate(columns, dataset, (CLEAN, fog, PGD), SETTINGS, **none)
    evaluate(columns, dataset, (CLEAN, fog), SETTINGS, directory=tmp_path, **none)
    with pytest.raises(RunError, match=f"{tmp_path}: attacks and corruptions are .* choose another folder"):
        evaluate(columns, dataset, (CLEAN, PGD), SETTINGS, directory=tmp_path, **none)


def test_the_rows_of_corruptions_are_all_of_them() -> None:
    assert {row.attack for row in CORRUPTED} == {"none", "spatial", *CORRUPTIONS}
    assert len({row.key for row in CORRUPTED}) == len(CORRUPTED) == 1 + 3 * len(CORRUPTIONS) + 3


def test_aiming_at_the_defence_changes_only_the_defences_images(records: Records) -> None:
    classifier, defence = records.rows[PGD.key], records.rows[END_TO_END.key]
    assert not torch.equal(classifier.gallery.attacked, defence.gallery.attacked)
    assert classifier.gallery.linf.max() <= 0.2
    assert defence.gallery.linf.max() <= 0.2


def test_a_rows_figures_do_not_depend_on_the_others(records: Records, columns: Models, dataset: Dataset) -> None:
    alone = evaluate(columns, dataset, (PGD, DEEPFOOL[1]), replace(SETTINGS, curve_images=0, sweep_images=0))
    assert same(alone.rows[PGD.key], records.rows[PGD.key])
    assert same(alone.rows[DEEPFOOL[1].key], records.rows[DEEPFOOL[1].key])
    other = evaluate(columns, dataset, (PGD,), replace(SETTINGS, seed=1, curve_images=0, sweep_images=0))
    assert not torch.equal(other.rows[PGD.key].gallery.index, records.rows[PGD.key].gallery.index)


def test_deepfool_searches_once_for_all_its_rows(
    columns: Models, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(
        examples, "minimal_perturbation", lambda *a, **k: calls.append(a) or minimal_perturbation(*a, **k)
    )
    settings = Settings(curve_images=0, sweep_images=0, chunk=25)
    records = evaluate(columns, dataset, DEEPFOOL, settings)
    assert len(calls) == 2 * 2, "two chunks, and two models: the undefended one and N"
    model = columns["undefended"]
    for row in DEEPFOOL:
        direct = attacks.deepfool(model, dataset.images, dataset.labels, row.budget, steps=5)
        expected = model(direct).argmax(1)
        assert (records.rows[row.key].outcomes["undefended"].predicted == expected).float().mean() > 0.95


def test_curves_and_sweeps_are_recorded_on_the_first_images(records: Records) -> None:
    assert list(records.curve) == [CLEAN.key, PGD.key]
    assert all(len(outcome.predicted) == 20 for outcome in records.curve[PGD.key].outcomes.values())
    assert same_prefix(records.curve[PGD.key], records.rows[PGD.key], 20)
    (swept,) = records.sweeps.values()
    assert swept.samples.tolist() == [1, 2, 5, 10, 20, 50, 60]
    assert swept.predicted.shape == (7, 10)


def same_prefix(curve: Any, row: Any, n: int) -> bool:
    return all(torch.equal(curve.outcomes[name].predicted, row.outcomes[name].predicted[:n]) for name in curve.outcomes)


def test_the_files_hold_it_all_and_no_pickle(columns: Models, dataset: Dataset, tmp_path: Path) -> None:
    records = evaluate(columns, dataset, ROWS, SETTINGS, recipe="tiny", directory=tmp_path, **PARTS)
    again = read_records(tmp_path)
    assert again.results() == records.results() == read_results(tmp_path)
    assert all(same(again.rows[key], records.rows[key]) for key in records.rows)
    assert torch.equal(again.sweeps[PGD.key].predicted, records.sweeps[PGD.key].predicted)
    assert again.rows[PGD.key].gallery.rules == records.rows[PGD.key].gallery.rules
    assert torch.equal(again.rows[PGD.key].gallery.attacked, records.rows[PGD.key].gallery.attacked)
    with safe_open(tmp_path / FILE, framework="pt") as file:
        assert "labels" in file.keys()  # noqa: SIM118
    assert sorted(path.name for path in tmp_path.iterdir()) == ["records.safetensors", "results.json"]


def test_a_broken_run_goes_on_and_ends_the_same(
    columns: Models, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Records
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(attacks.ATTACKS, "pgd", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(columns, dataset, ROWS, SETTINGS, directory=tmp_path, **PARTS)
    assert [row.attack for row in read_results(tmp_path).rows] == ["none", "fgsm"]
    kept = read_records(tmp_path).rows[FGSM.key].seconds

    with monkeypatch.context() as patch:
        patch.setitem(attacks.ATTACKS, "fgsm", interrupted)
        resumed = evaluate(columns, dataset, ROWS, SETTINGS, directory=tmp_path, **PARTS)
    assert resumed.rows[FGSM.key].seconds == kept
    assert list(resumed.rows) == list(records.rows)
    assert all(same(resumed.rows[key], records.rows[key]) for key in records.rows)


def test_more_rows_join_those_that_are_there(columns: Models, dataset: Dataset, tmp_path: Path) -> None:
    settings = Settings(curve_images=0, sweep_images=0)
    evaluate(columns, dataset, (CLEAN, FGSM), settings, directory=tmp_path)
    both = evaluate(columns, dataset, (PGD,), settings, directory=tmp_path)
    assert list(both.rows) == [PGD.key, CLEAN.key, FGSM.key]


def test_a_folder_of_another_run_is_refused_and_kept(columns: Models, dataset: Dataset, tmp_path: Path) -> None:
    evaluate(columns, dataset, (CLEAN,), SETTINGS, directory=tmp_path, curve_rows=(), sweep_rows=())
    before = (tmp_path / FILE).read_bytes()
    with torch.no_grad():
        columns["carso"].purifier.mean.bias[0] += 1
    with pytest.raises(RunError, match="another run"):
        evaluate(columns, dataset, (CLEAN,), SETTINGS, directory=tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_folder_is_of_what_attacks_see_of_a_purifier(
    columns: Models, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that an attack of other rules crafted are not taken over; those of CARSO and of N are, as ever."""
    plain, purified = columns, {"mine": Rounded(columns["undefended"])}
    evaluation, none = importlib.import_module("carso.evaluation.evaluate"), {"curve_rows": (), "sweep_rows": ()}
    for name, given in (("plain", plain), ("purified", purified)):
        evaluate(given, dataset, (CLEAN,), SETTINGS, directory=tmp_path / name, **none)
    evaluate(purified, dataset, (CLEAN, FGSM), SETTINGS, directory=tmp_path / "purified", **none)
    monkeypatch.setattr(evaluation, "EXPOSURE", evaluation.EXPOSURE + 1)
    evaluate(plain, dataset, (CLEAN, FGSM), SETTINGS, directory=tmp_path / "plain", **none)
    with pytest.raises(RunError, match="another run"):
        evaluate(purified, dataset, (CLEAN,), SETTINGS, directory=tmp_path / "purified", **none)


def test_lacking_columns_are_null_and_further_ones_stand_beside(
    columns: Models, dataset: Dataset, tmp_path: Path
) -> None:
    named = {"stranger": columns["undefended"], "carso": columns["carso"]}
    evaluate(named, dataset, (CLEAN,), Settings(n=30), directory=tmp_path, curve_rows=(), sweep_rows=())
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert row["undefended"] is None
    assert row["adversarially_trained"] is None
    assert row["carso"]["total"] == row["others"]["stranger"]["total"] == 30


def test_confusion_counts_pairs_of_true_and_answered_class(records: Records, dataset: Dataset) -> None:
    outcome = records.rows[FGSM.key].outcomes["undefended"]
    table = records.confusion(outcome)
    assert table.sum() == 50
    assert int(table.diagonal().sum()) == records.rate(outcome).correct
    assert torch.equal(table.sum(1), torch.bincount(dataset.labels, minlength=4))


def test_bad_input_is_named(columns: Models, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="noise: has 50 images, fewer than the 51"):
        evaluate(columns, dataset, settings=Settings(n=51))
    with pytest.raises(DataError, match="no labels"):
        evaluate(columns, Dataset("bare", dataset.images))
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        Settings(chunk=0)
    with pytest.raises(ValueError, match="no attack 'pdg'"):
        evaluate(columns, dataset, (Row("pdg", Budget("L2", 1.0)),))
    with pytest.raises(RunError, match="no such file"):
        read_records(tmp_path)
    (tmp_path / FILE).write_bytes(b"half")
    with pytest.raises(RunError, match=r"records\.safetensors is truncated.*; delete it and evaluate again"):
        read_records(tmp_path)


def test_rows_directed_at_the_defence_may_have_fewer_images(columns: Models, dataset: Dataset) -> None:
    settings = Settings(curve_images=0, sweep_images=0, defence_images=12)
    results = evaluate(columns, dataset, [FGSM, END_TO_END], settings).results()
    assert [row.carso.total for row in results.rows] == [50, 12]


def test_a_calibrated_defence_turns_images_away_if_it_is_asked_to(
    columns: Models, dataset: Dataset, tmp_path: Path
) -> None:
    columns["carso"].calibrate(dataset.images, torch.Generator().manual_seed(0))
    asked = replace(SETTINGS, reject_at=0.2)
    records = evaluate(
        columns, dataset, (CLEAN, FGSM), asked, recipe="t", directory=tmp_path, curve_rows=(), sweep_rows=()
    )
    plain = evaluate(columns, dataset, (CLEAN, FGSM), SETTINGS, recipe="t", curve_rows=(), sweep_rows=())
    assert all(same(records.rows[key], plain.rows[key]) for key in plain.rows)
    assert plain.results().rows[0].believed is None
    for row, record in zip(read_results(tmp_path).rows, records.rows.values(), strict=True):
        outcome = record.outcomes["carso"]
        accepted = outcome.accepted.bool()
        right = (outcome.predicted == dataset.labels)[accepted]
        assert row.believed.turned_away.correct == int((~accepted).sum()) < 50
        assert (row.believed.right.correct, row.believed.right.total) == (int(right.sum()), len(right))
    assert read_results(tmp_path).rows[0].believed.turned_away.correct <= 20
    assert record.outcomes["adversarially_trained"].accepted is None
    again = read_records(tmp_path).rows[FGSM.key].outcomes["carso"]
    assert torch.equal(again.accepted, records.rows[FGSM.key].outcomes["carso"].accepted)


def test_shared_examples_are_those_of_each_evaluation_made_once(
    records: Records, columns: Models, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, made = examples.SharedExamples(0), []
    craft = examples.AdversarialExamples.__call__

    def counted(self: Any, row: Row, model: Any, images: Any, labels: Any, start: int) -> Any:
        made.append(row.key)
        return craft(self, row, model, images, labels, start)

    monkeypatch.setattr(examples.AdversarialExamples, "__call__", counted)
    first, again = (evaluate(columns, dataset, ROWS, SETTINGS, examples=shared, **PARTS) for _ in range(2))
    assert all(same(first.rows[row.key], records.rows[row.key]) for row in ROWS)
    assert all(same(again.rows[row.key], records.rows[row.key]) for row in ROWS)
    chunks = 3
    assert made.count(END_TO_END.key) == 3 * chunks
    assert made.count(FGSM.key) == 2 * chunks


def test_of_fixed_latents_every_call_picks_anew_and_no_attack_rests(
    columns: Models, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    defence = columns["carso"].fixed(3)
    answers: list[Any] = []

    def attack(model: Any, images: Any, labels: Any, budget: Any, *, generator: Any, **options: Any) -> Any:
        assert is_random(model, images)
        answers.extend(model(images) for _ in range(6))
        return images

    monkeypatch.setitem(attacks.ATTACKS, PGD.attack, attack)
    examples.AdversarialExamples(0)(replace(END_TO_END, eot=1), defence, dataset.images, dataset.labels, 0)
    known = torch.stack([defence.surrogate(dataset.images, latents=z[None]) for z in defence.latents()])
    assert all((known - answer).abs().amax((1, 2)).min() < 0.05 for answer in answers)
    assert len({tuple(answer.flatten().tolist()) for answer in answers}) > 1
    more = columns["carso"].fixed(3)
    more.samples += 1
    assert models.exposure(more) != models.exposure(defence)


def test_whoever_votes_otherwise_is_attacked_alike_but_other_weights_are_not(columns: Models) -> None:
    defence = columns["carso"]
    before = models.exposure(defence), models.fingerprint(defence)
    defence.samples, defence.aggregation = 7, "mean-logit"
    assert models.exposure(defence) == before[0]
    assert models.fingerprint(defence) != before[1]
    with torch.no_grad():
        next(defence.purifier.parameters()).add_(1)
    assert models.exposure(defence) != before[0]


@pytest.mark.parametrize("make", [examples.AdversarialExamples, examples.SharedExamples])
def test_a_search_is_not_taken_for_that_of_other_images_or_weights(
    columns: Models, dataset: Dataset, make: Callable[..., Any]
) -> None:
    kept, model = make(0), copy.deepcopy(columns["undefended"])
    for images, labels in ((dataset.images, dataset.labels), (dataset.images.flip(0), dataset.labels.flip(0))):
        for _ in range(2):
            found = kept(DEEPFOOL[1], model, images, labels, 0)
            direct = attacks.deepfool(model, images, labels, DEEPFOOL[1].budget, steps=5)
            torch.testing.assert_close(found, direct)
            with torch.no_grad():
                model.linear1.weight.mul_(1.5)


@pytest.mark.parametrize("make", [examples.AdversarialExamples, examples.SharedExamples])
def test_a_surrogate_is_searched_anew_once_its_weights_have_changed_and_only_then(
    columns: Models, dataset: Dataset, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, network, calls = make(0), copy.deepcopy(columns["undefended"]), []
    monkeypatch.setattr(
        examples, "minimal_perturbation", lambda *a, **k: calls.append(a) or minimal_perturbation(*a, **k)
    )
    given = DEEPFOOL[1], models.Followed(Straight(network)), dataset.images, dataset.labels, 0
    before = kept(*given)
    assert torch.equal(kept(*given), before)
    assert len(calls) == 1
    with torch.no_grad():
        network.linear1.weight.mul_(1.5)
    assert torch.equal(kept(*given), make(0)(*given))
    assert not torch.equal(kept(*given), before)


def test_shared_examples_know_a_surrogate_again(columns: Models, dataset: Dataset) -> None:
    kept, network = examples.SharedExamples(0), columns["undefended"]
    first, again = (
        kept(END_TO_END, models.Followed(Straight(network)), dataset.images, dataset.labels, 0) for _ in range(2)
    )
    assert first is again


@dataclass
class Unhashable:
    """A column of somebody's that compares by value, as plain dataclasses do."""

    network: nn.Module

    def __call__(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(images)
        return scores


def test_columns_need_no_hash(columns: Models, dataset: Dataset) -> None:
    network = columns["undefended"]
    found = evaluate(
        {"mine": Unhashable(network), "undefended": network},
        dataset,
        (CLEAN, FGSM),
        SETTINGS,
        curve_rows=(),
        sweep_rows=(),
    )
    for row in found.rows.values():
        assert torch.equal(row.outcomes["mine"].predicted, row.outcomes["undefended"].predicted)


class Noisy(nn.Module):
    """A network that draws on torch's global generator."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images + 0.1 * torch.randn_like(images))
        return logits


@pytest.mark.parametrize("of_defence", [False, True])
def test_a_search_does_not_depend_on_the_row_that_begins_it(
    columns: Models, dataset: Dataset, of_defence: bool
) -> None:
    model = columns["carso"] if of_defence else Noisy(columns["undefended"])
    rows = [replace(row, directed_at="defence") for row in DEEPFOOL]
    given = model, dataset.images, dataset.labels, 0
    both, alone = examples.AdversarialExamples(0), examples.AdversarialExamples(0)
    both(rows[0], *given)
    expected = both(rows[1], *given)
    torch.manual_seed(1)
    assert torch.equal(alone(rows[1], *given), expected)
    assert not torch.equal(examples.AdversarialExamples(1)(rows[1], *given), expected)


def test_other_thresholds_are_another_run(columns: Models, dataset: Dataset, tmp_path: Path) -> None:
    asked, column = replace(SETTINGS, reject_at=0.2), copy.deepcopy(columns["carso"])
    column.calibrate(dataset.images)
    evaluate({"carso": column}, dataset, ROWS[:1], asked, directory=tmp_path, **PARTS)
    column.calibrate(dataset.images.flip(3))
    with pytest.raises(RunError, match="another run"):
        evaluate({"carso": column}, dataset, ROWS[:1], asked, directory=tmp_path, **PARTS)
