"""A defence comes back from a folder and from the hub as it went, and nothing else is read."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from importlib import util
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from carso import weights
from carso.audit import read_audit
from carso.defence import CARSO
from carso.errors import CarsoError, ModelError, RunError, WeightsError
from carso.evaluation.environment import environment
from carso.evaluation.results import Rate, ResultRow, Results
from carso.hub import sharing
from carso.hub.card import card
from carso.representation import Representation

IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def votes(defence: CARSO) -> list[list[int]]:
    found: list[list[int]] = defence.votes(IMAGES, torch.Generator().manual_seed(2)).tolist()
    return found


def front(folder: Path) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    return found


def test_a_folder_gives_back_the_same_answers(defence: CARSO, tmp_path: Path) -> None:
    folder = defence.save_pretrained(tmp_path / "mine")
    assert votes(CARSO.from_pretrained(folder)) == votes(defence)
    told = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert told.keys() == {"classifier.safetensors", "purifier.safetensors"}
    for file, sha in told.items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == sha
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


@pytest.mark.parametrize("file", ["recipe.yaml", "results.json", "undefended.safetensors", "README.md"])
def test_nothing_of_a_run_or_of_anybody_elses_is_written_over(file: str, defence: CARSO, tmp_path: Path) -> None:
    (tmp_path / file).write_text("mine")
    with pytest.raises(RunError, match=f"holds {file}, which is not of a shared defence; choose another folder"):
        defence.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert (tmp_path / file).read_text() == "mine"


def test_a_shared_defence_may_be_stored_anew(defence: CARSO, tmp_path: Path) -> None:
    for _ in range(2):
        defence.save_pretrained(tmp_path)
    assert votes(CARSO.from_pretrained(tmp_path)) == votes(defence)


@pytest.mark.parametrize("part", ["purifier", "classifier", "samples", "card"])
def test_what_cannot_be_stored_leaves_what_was_there(
    part: str, defence: CARSO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    folder = defence.save_pretrained(tmp_path / "mine")
    expected, before = votes(defence), {path.name: path.read_bytes() for path in folder.iterdir()}
    with torch.no_grad():
        for parameter in defence.classifier.parameters():
            parameter.add_(1)
        if part in ("purifier", "classifier"):
            next(getattr(defence, part).parameters()).fill_(float("nan"))
    if part == "samples":
        defence.samples = 10_001
    if part == "card":
        monkeypatch.setattr(sharing, "_card", full)
    with pytest.raises(CarsoError, match=rf"mine(.{part}\.safetensors|.purifier\.safetensors|: No space left)"):
        defence.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert votes(CARSO.from_pretrained(folder)) == expected


def test_a_card_that_somebody_edited_is_not_written_over(defence: CARSO, tmp_path: Path) -> None:
    folder = defence.save_pretrained(tmp_path / "mine")
    card, first = folder / "README.md", (folder / "README.md").read_text()
    for edited in (first + "Ours.\n", first.replace("**Not audited.**", "Fine."), "Ours.\n"):
        card.write_text(edited)
        with pytest.raises(RunError, match=r"mine/README\.md is not as carso wrote it; move it away"):
            defence.save_pretrained(folder)
        assert card.read_text() == edited
    CARSO.from_pretrained(folder)
    card.unlink()
    defence.save_pretrained(folder)
    assert card.read_text() == first


@pytest.mark.parametrize("file", ["audit.json", "results.json", "undefended.safetensors"])
def test_what_was_made_of_a_shared_defence_since_is_not_lost(file: str, defence: CARSO, tmp_path: Path) -> None:
    folder = defence.save_pretrained(tmp_path / "mine")
    (folder / file).write_text("measured since")
    with pytest.raises(WeightsError, match=f"mine/{file} is not part of what was shared; move it away$"):
        CARSO.from_pretrained(folder)
    with pytest.raises(
        RunError,
        match=f"mine/{file} is not what SHA256SUMS tells of, as after a run or a save broken off; move it away",
    ):
        defence.save_pretrained(folder)
    assert (folder / file).read_text() == "measured since"
    (folder / file).unlink()
    assert votes(CARSO.from_pretrained(defence.save_pretrained(folder))) == votes(defence)


def test_what_took_the_place_of_a_shared_file_is_not_lost(tmp_path: Path) -> None:
    defence = weights.load("mnist-thesis")
    folder = defence.save_pretrained(tmp_path / "mine", run="mnist-thesis")
    (folder / "audit.json").write_text("another")
    with pytest.raises(
        RunError,
        match=r"mine/audit\.json is not what SHA256SUMS tells of, as after a run or a save broken off; move it away",
    ):
        defence.save_pretrained(folder)
    assert (folder / "audit.json").read_text() == "another"


@pytest.mark.parametrize("sums", ["", f"{'0' * 64}  photographs.zip\n"])
def test_the_checksums_of_something_else_are_not_written_over(sums: str, defence: CARSO, tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(sums)
    with pytest.raises(RunError, match="holds SHA256SUMS, which is not of a shared defence; choose another folder"):
        defence.save_pretrained(tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == sums


def test_the_card_of_a_defence_that_nobody_attacked_says_so(defence: CARSO, tmp_path: Path) -> None:
    folder = defence.save_pretrained(tmp_path / "mine")
    assert "**Not audited.**" in (folder / "README.md").read_text()
    assert front(folder)["library_name"] == "carso"
    assert "datasets" not in front(folder)
    defence.data = "fashion-mnist"
    assert front(defence.save_pretrained(folder))["datasets"] == ["fashion-mnist"]
    assert CARSO.from_pretrained(folder).data == "fashion-mnist"


def test_the_card_is_headed_by_the_folder_however_it_is_named(
    defence: CARSO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    defence.save_pretrained(".")
    assert "\n# mine\n" in (tmp_path / "mine" / "README.md").read_text()


def test_the_card_of_a_shipped_defence_tells_its_audit(tmp_path: Path) -> None:
    folder = weights.load("mnist-strong").save_pretrained(tmp_path / "strong", run="mnist-strong")
    text = (folder / "README.md").read_text()
    assert "n = 2,000 images of mnist, seed 0" in text
    assert "| Linf 0.3 | 98.0 [97.3, 98.6] | 71.5 [69.5, 73.5] |" in text
    assert "None of 13 checks was raised." in text
    assert front(folder)["datasets"] == ["mnist"]
    assert weights.origin(folder).data == "mnist"
    assert (folder / "undefended.safetensors").exists()
    sharing.restore(folder)


def test_the_card_does_not_tell_where_the_images_were() -> None:
    images, run, rate = "/home/me/my pictures", "/home/me/out/mine (validation)", Rate.of(3, 4)
    audit = read_audit(weights.find("mnist-strong")).model_copy(update={"dataset": images})
    clean = ResultRow(attack="none", norm=None, eps=0, foreseen=True, directed_at="classifier", carso=rate)
    results = Results(recipe=run, seed=0, n=4, environment=environment(), rows=[clean], dataset=images)
    text = card("mine", None, audit, results)
    assert "images of my pictures, seed 0" in text
    assert "images of my pictures**" in text
    assert "Evaluated: mine (validation), seed" in text
    assert "/home" not in text


def test_it_goes_to_the_hub_and_comes_back(defence: CARSO, hub: Path) -> None:
    assert defence.push_to_hub("somebody/mine") == "hub/somebody/mine"
    held = hub / "somebody" / "mine"
    assert {path.name for path in held.iterdir()} == {
        "README.md",
        "SHA256SUMS",
        "classifier.safetensors",
        "purifier.safetensors",
    }
    assert 'from_pretrained("somebody/mine")' in (held / "README.md").read_text()
    assert votes(CARSO.from_pretrained("somebody/mine", revision="main")) == votes(defence)


def test_a_repository_that_is_not_there_is_one_line(hub: Path) -> None:
    with pytest.raises(RunError, match=r"^somebody/else: neither a folder nor to be had from the hub: no repository"):
        CARSO.from_pretrained("somebody/else")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("somebody/mine", {"revison": "0123abc"}, "the hub has no option 'revison'; it has revision, cache_dir, "),
        (Path("mine"), {"revision": "main"}, "a folder has no option 'revision'; it has none"),
        ("mine", {"token": "t"}, "a folder has no option 'token'; it has none"),
        (Path("typo"), {}, "no folder typo; a repository of the hub is a string, 'user/name'"),
        ("mnist", {}, r"mnist ships with carso, and is no repository: carso\.load\('mnist'\) has it"),
        ("mnist-thesis", {}, r"mnist-thesis ships with carso, and is no repository: carso\.load\('mnist-thesis'\)"),
    ],
)
def test_what_nothing_would_be_done_with_is_refused_before_the_hub_is_asked(
    source: str | Path,
    options: dict[str, str],
    message: str,
    defence: CARSO,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    defence.save_pretrained("mine")
    monkeypatch.setattr(sharing, "_mixin", lambda: pytest.fail("the hub was asked"))
    with pytest.raises(CarsoError, match=f"^{message}"):
        CARSO.from_pretrained(source, **options)


def test_without_the_extra_only_the_hub_is_missed(
    defence: CARSO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = util.find_spec
    monkeypatch.setattr(sharing, "find_spec", lambda name: None if name == "huggingface_hub" else there(name))
    assert votes(CARSO.from_pretrained(defence.save_pretrained(tmp_path / "mine"))) == votes(defence)
    for ask in (lambda: defence.push_to_hub("a/b"), lambda: CARSO.from_pretrained("a/b")):
        with pytest.raises(ModelError, match=r"pip install 'carso\[hub\]'$"):
            ask()


def test_a_pickle_is_refused(defence: CARSO, tmp_path: Path) -> None:
    folder = defence.save_pretrained(tmp_path / "mine")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin, a pickle, which may run code"):
        CARSO.from_pretrained(folder)


@pytest.mark.parametrize("file", ["classifier.safetensors", "purifier.safetensors"])
def test_a_file_that_is_not_the_one_told_is_refused(file: str, defence: CARSO, tmp_path: Path) -> None:
    folder = defence.save_pretrained(tmp_path / "mine")
    changed = bytearray((folder / file).read_bytes())
    changed[-1] ^= 1
    (folder / file).write_bytes(changed)
    with pytest.raises(WeightsError, match=f"{file} is not the file that SHA256SUMS tells of"):
        CARSO.from_pretrained(folder)


def test_sums_that_are_missing_or_lead_out_are_refused(defence: CARSO, tmp_path: Path) -> None:
    folder = defence.save_pretrained(tmp_path / "mine")
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text() + f"{'0' * 64}  ../other\n")
    with pytest.raises(WeightsError, match=r"names '\.\./other', which is no file of a defence"):
        CARSO.from_pretrained(folder)
    sums.unlink()
    with pytest.raises(WeightsError, match="has no SHA256SUMS"):
        CARSO.from_pretrained(folder)


def test_figures_of_other_weights_are_not_taken_along(defence: CARSO, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="tells of other weights"):
        defence.save_pretrained(tmp_path / "mine", run="mnist")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("samples", 1, r"samples \d+, not 1"),
        ("aggregation", "mean-logit", "aggregation mode, not mean-logit"),
        ("stop", "exact", "stop confident, not exact"),
        ("error", 0.25, "error 0.0001, not 0.25"),
    ],
)
def test_figures_of_another_vote_are_not_taken_along(setting: str, value: object, message: str, tmp_path: Path) -> None:
    defence = weights.load("mnist-thesis")
    setattr(defence, setting, value)
    with pytest.raises(RunError, match=rf"was measured with {message}; vote as it did, or leave the run"):
        defence.save_pretrained(tmp_path / "mine", run="mnist-thesis")
    folder = defence.save_pretrained(tmp_path / "mine")
    assert "**Not audited.**" in (folder / "README.md").read_text()


def test_a_defence_that_is_more_than_its_weights_is_not_stored_as_another(tmp_path: Path) -> None:
    defence = weights.load("mnist-thesis")
    with pytest.raises(
        WeightsError, match=r"mine/purifier\.safetensors was not written.*: its latents fixed by seed 3, "
    ):
        defence.fixed(3).save_pretrained(tmp_path / "mine", run="mnist-thesis")
    assert not list((tmp_path / "mine").iterdir())


def test_a_classifier_of_ones_own_is_handed_over_again(defence: CARSO, tmp_path: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 5)).eval()
    neurons = sum(Representation(own).sizes(IMAGES[:1]).values())
    made = CARSO(own, type(defence.purifier)((1, 8, 8), neurons, latent=4), samples=20)
    folder = made.save_pretrained(tmp_path / "own")
    assert votes(CARSO.from_pretrained(folder, classifier=own)) == votes(made)
    with pytest.raises(CarsoError, match="pass it as `classifier`"):
        CARSO.from_pretrained(folder)


def test_a_classifier_that_was_trained_in_the_run_is_restored_into_a_fresh_one(defence: CARSO, tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 5)).eval()

    own = build()
    neurons = sum(Representation(own).sizes(IMAGES[:1]).values())
    made = CARSO(own, type(defence.purifier)((1, 8, 8), neurons, latent=4), samples=20)
    weights.save_classifier(own, tmp_path / "run" / weights.CLASSIFIER, {"trained": True})
    weights.save_purifier(made, tmp_path / "run" / weights.PURIFIER)
    for run in (tmp_path / "run", None):
        folder = made.save_pretrained(tmp_path / "shared", run=run)
        assert votes(CARSO.from_pretrained(folder, classifier=build())) == votes(made)
