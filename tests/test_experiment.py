from pathlib import Path

import pytest
import torch
from torch import nn

from carso import weights
from carso.errors import ModelError, RecipeError, RunError
from carso.experiment import Experiment
from carso.factory import call
from carso.training.recipe import Recipe, parse_recipe

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
    (tmp_path / weights.PURIFIER).write_bytes(b"own")
    with pytest.raises(RunError, match="trained here"):
        experiment.adopt("mnist")
    assert (tmp_path / weights.PURIFIER).read_bytes() == b"own"


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


@pytest.mark.parametrize(
    ("factory", "message"), [("no.such:thing", "cannot be imported"), ("builtins:list", "returned list")]
)
def test_a_factory_that_makes_no_module_is_named(factory: str, message: str, tmp_path: Path) -> None:
    text = TEXT.format(seed=0) + f'classifier: {{factory: "{factory}"}}\n'
    with pytest.raises(RecipeError, match=message):
        Experiment(recipe(text), tmp_path, CPU).train_classifier()
