import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from carso.data import Dataset
from carso.errors import ModelError, RecipeError, RunError
from carso.nn import MLP
from carso.storage import weights
from carso.storage.factory import call
from carso.training.experiment import Experiment
from carso.training.recipe import Recipe, parse_recipe, read_recipe

CPU = torch.device("cpu")
TEXT = "name: x\nseed: {seed}\npurification: {{epochs: 1, rate: 0.1}}\n"


def recipe(text: str = TEXT.format(seed=0)) -> Recipe:
    return parse_recipe(text, "test")


def test_a_folder_belongs_to_one_recipe_and_seed(tmp_path: Path) -> None:
    Experiment(recipe(), tmp_path, CPU).open()
    Experiment(recipe(), tmp_path, CPU).open()
    with pytest.raises(RunError, match="another recipe or seed"):
        Experiment(recipe(TEXT.format(seed=1)), tmp_path, CPU).open()
    assert parse_recipe((tmp_path / "recipe.yaml").read_text(), "saved") == recipe()


def test_shipped_weights_are_adopted_and_own_ones_kept(tmp_path: Path) -> None:
    experiment = Experiment(recipe(), tmp_path, CPU)
    experiment.adopt("mnist")
    experiment.adopt("mnist")
    assert weights.digest(experiment.defence().purifier) == weights.digest(weights.load("mnist").purifier)
    assert (tmp_path / weights.AUDIT).read_bytes() == (weights.find("mnist") / weights.AUDIT).read_bytes()
    (tmp_path / weights.PURIFIER).write_bytes(b"own")
    (tmp_path / weights.AUDIT).write_text("{}")
    with pytest.raises(RunError, match="trained here"):
        experiment.adopt("mnist")
    assert (tmp_path / weights.PURIFIER).read_bytes() == b"own"
    assert (tmp_path / weights.AUDIT).read_text() == "{}"


def test_a_function_in_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_this_test.py").write_text(
        "import torch\ndef build(): return torch.nn.Linear(2, 3)\ndef broken(): raise ValueError('no')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert isinstance(call("mine_for_this_test:build"), nn.Linear)
    with pytest.raises(ModelError, match="failed: ValueError: no"):
        call("mine_for_this_test:broken")
    with pytest.raises(ModelError, match="cannot be imported"):
        call("mine_for_this_test:absent")


@pytest.mark.parametrize("source", ["def build(:", "raise SystemExit(0)", "1 / 0"])
def test_a_module_that_fails_is_named(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"mine_that_fails_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    with pytest.raises(ModelError, match=f"'{name}:build' cannot be imported"):
        call(f"{name}:build")


def test_a_classifier_with_too_few_classes_is_refused(tmp_path: Path) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(784, 7))
    with pytest.raises(ModelError, match="knows 7 classes, mnist has 10"):
        Experiment(recipe(), tmp_path, CPU, classifier).train_purifier()


def test_convolutions_without_anything_to_convolve_are_refused(tmp_path: Path) -> None:
    text = TEXT.format(seed=0) + "purifier: {maps: [4], layers: [mish1, output]}\n"
    message = r"purifier.maps needs a layer of 2 x 2 pixels or more.*mish1, output"
    with pytest.raises(RecipeError, match=message):
        Experiment(recipe(text), tmp_path, CPU, MLP()).train_purifier()
    with pytest.raises(RecipeError, match=message):
        Experiment(recipe(text), tmp_path, CPU).check()


@pytest.mark.parametrize(
    ("factory", "message"), [("no.such:thing", "cannot be imported"), ("builtins:list", "returned list")]
)
def test_a_factory_that_makes_no_module_is_named(factory: str, message: str, tmp_path: Path) -> None:
    text = TEXT.format(seed=0) + f'classifier: {{factory: "{factory}"}}\n'
    with pytest.raises(RecipeError, match=message):
        Experiment(recipe(text), tmp_path, CPU).train_classifier()


def test_a_recipe_without_purification_is_for_a_classifier_alone(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has no `purification`"):
        Experiment(read_recipe("control"), tmp_path / "out", torch.device("cpu")).carry_out()
    assert not (tmp_path / "out").exists()


HARDENED = """name: x
data: {data}
purification: {{epochs: 2, batch: 16, rate: 0.01, attacks: [{{attack: fgsm, eps: 0.1}}]}}
hardening:
  {{epochs: 2, batch: 16, rate: 0.01, feed: fresh, consistency: 1.0,
    attacks: [{{attack: annealed, eps: 0.1, steps: 2, directed_at: defence}}]}}
"""


def test_hardening_goes_on_from_the_purified_purifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Dataset("few", torch.rand(32, 1, 5, 5), torch.arange(32) % 3, ("a", "b", "c"))
    monkeypatch.setattr("carso.data.load", lambda name, split: few)
    torch.manual_seed(0)
    classifier = MLP((1, 5, 5), (6,), 3).eval()
    whole = Experiment(recipe(HARDENED.format(data="few")), tmp_path / "whole", CPU, classifier)
    whole.train_purifier()
    files = [tmp_path / "whole" / name for name in (weights.UNHARDENED, weights.PURIFIER)]
    assert files[0].read_bytes() != files[1].read_bytes()
    resumed = Experiment(whole.recipe, tmp_path / "resumed", CPU, classifier)
    resumed.out.mkdir()
    shutil.copyfile(files[0], resumed.out / weights.UNHARDENED)
    resumed.train_purifier()
    assert (resumed.out / weights.PURIFIER).read_bytes() == files[1].read_bytes()


def test_hardening_needs_a_purification() -> None:
    with pytest.raises(RecipeError, match="goes on from a purification"):
        recipe("name: x\nhardening: {epochs: 1, rate: 0.1}\n")
