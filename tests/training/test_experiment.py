import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from carso.data import Dataset, from_torch, load_pairs, save_pairs
from carso.errors import DataError, ModelError, RecipeError, RunError, WeightsError
from carso.nn import MLP, ResNet
from carso.purifier import ConvolutionalPurifier
from carso.storage import weights
from carso.storage.factory import call, copied
from carso.storage.files import write_text
from carso.training.experiment import Experiment
from carso.training.history import read_history
from carso.training.reading import parse_recipe, read_recipe
from carso.training.recipe import Recipe

pytestmark = pytest.mark.whole

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


@pytest.mark.parametrize("file", [weights.CLASSIFIER, weights.PURIFIER, weights.UNDEFENDED])
def test_weights_of_no_known_recipe_are_not_taken_for_trained_ones(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"own")
    with pytest.raises(RunError, match=r"holds weights of no known recipe; choose another --out"):
        Experiment(recipe(), tmp_path, CPU).open()
    assert [path.name for path in tmp_path.iterdir()] == [file]
    Experiment(recipe(), tmp_path, CPU).open(adopting=True)
    assert (tmp_path / "recipe.yaml").exists()


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


def test_what_was_not_copied_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:100])
        if source.name == weights.PURIFIER:
            raise KeyboardInterrupt

    experiment = Experiment(recipe(), tmp_path, CPU)
    with monkeypatch.context() as patch:
        patch.setattr("carso.storage.files.shutil.copyfile", lambda *both: interrupted(*both))
        with pytest.raises(KeyboardInterrupt):
            experiment.adopt("mnist")
    assert not (tmp_path / weights.PURIFIER).exists()
    (tmp_path / weights.CLASSIFIER).unlink()
    experiment.adopt("mnist")
    assert weights.digest(experiment.defence()) == weights.digest(weights.load("mnist"))


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


@pytest.fixture
def hardening(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Experiment]:
    """An experiment of two short stages before a given classifier, in a folder."""
    few = Dataset("few", torch.rand(32, 1, 5, 5), torch.arange(32) % 3, ("a", "b", "é"))
    monkeypatch.setattr("carso.data.load", lambda name, split: few)
    torch.manual_seed(0)
    classifier = MLP((1, 5, 5), (6,), 3).eval()
    return lambda folder: Experiment(recipe(HARDENED.format(data="few")), folder, CPU, classifier)


def test_hardening_goes_on_from_the_purified_purifier(tmp_path: Path, hardening: Callable[[Path], Experiment]) -> None:
    whole = hardening(tmp_path / "whole")
    whole.train_purifier()
    files = [tmp_path / "whole" / name for name in (weights.UNHARDENED, weights.PURIFIER)]
    assert files[0].read_bytes() != files[1].read_bytes()
    resumed = hardening(tmp_path / "resumed")
    resumed.out.mkdir()
    shutil.copyfile(files[0], resumed.out / weights.UNHARDENED)
    resumed.train_purifier()
    assert (resumed.out / weights.PURIFIER).read_bytes() == files[1].read_bytes()


def test_a_runs_folder_is_not_taken_for_the_shipped_defence_of_its_name(
    tmp_path: Path, hardening: Callable[[Path], Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = hardening(Path("mnist"))
    experiment.train_purifier()
    assert experiment.defence().class_names == ("a", "b", "é")
    assert experiment.undefended() is None


def _broken_off(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_checkpoint_belongs_to_its_classifier_and_its_images(
    tmp_path: Path, hardening: Callable[[Path], Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = hardening(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "_save_purifier", _broken_off)
        with pytest.raises(KeyboardInterrupt):
            begun.train_purifier()
    other, images = MLP((1, 5, 5), (6,), 3).eval(), begun.train
    swapped = replace(images, labels=2 - images.required_labels)
    pairs = (images[:31], images), (images, images[:31]), (images.shuffled(0), images), (swapped, images)
    for changed in (replace(begun, classifier=other), *(replace(begun, sets=sets) for sets in pairs)):
        with pytest.raises(RunError, match="belongs to another recipe, seed, classifier or data; choose another --out"):
            changed.train_purifier()
    hardening(tmp_path).train_purifier()
    assert (tmp_path / weights.PURIFIER).exists()


def test_a_purifier_of_another_classifier_is_not_hardened(
    tmp_path: Path, hardening: Callable[[Path], Experiment]
) -> None:
    begun = hardening(tmp_path)
    begun.train_purifier()
    (tmp_path / weights.PURIFIER).unlink()
    with pytest.raises(WeightsError, match=r"unhardened\.safetensors was trained for a classifier with other weights"):
        replace(begun, classifier=MLP((1, 5, 5), (6,), 3).eval()).train_purifier()


def test_a_factory_that_returns_other_weights_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(25, 3))
    monkeypatch.setattr("builtins.network_for_this_test", lambda: network, raising=False)
    told = recipe(TEXT.format(seed=0) + 'classifier: {factory: "builtins:network_for_this_test"}\n')
    for _ in range(2):
        Experiment(told, tmp_path, CPU).open()
        Experiment(told, tmp_path, CPU).train_classifier()
    with torch.no_grad():
        network[1].bias += 1
    with pytest.raises(RunError, match="was begun for a classifier with other weights; choose another --out"):
        Experiment(told, tmp_path, CPU).open()


@pytest.mark.parametrize("trained", [True, False])
def test_a_factory_that_returns_other_weights_in_every_call_is_refused_unless_it_is_to_be_trained(
    trained: bool, tmp_path: Path, pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.network_for_this_test", lambda: MLP((3, 16, 16), (4,), 3), raising=False)
    own = 'classifier: {factory: "builtins:network_for_this_test"}\n'
    stage = "" if trained else "adversarial: {epochs: 1, rate: 0.1}\n"
    experiment = Experiment(recipe(TEXT.format(seed=0) + own + stage), tmp_path, CPU, sets=(pictures, pictures))
    if not trained:
        experiment.check()
        return
    told = "classifier.factory 'builtins:network_for_this_test' returns other weights in every call; load them in it"
    with pytest.raises(RecipeError, match=told):
        experiment.check()


def test_hardening_needs_a_purification() -> None:
    with pytest.raises(RecipeError, match="goes on from a purification"):
        recipe("name: x\nhardening: {epochs: 1, rate: 0.1}\n")


def test_a_defence_knows_the_names_of_its_classes(tmp_path: Path, hardening: Callable[[Path], Experiment]) -> None:
    experiment = hardening(tmp_path)
    experiment.train_purifier()
    assert experiment.defence().class_names == ("a", "b", "é")
    assert weights.about(tmp_path / weights.UNHARDENED, "purifier")["classes"] == ["a", "b", "é"]


@pytest.fixture
def knowing_more(tmp_path: Path, hardening: Callable[[Path], Experiment]) -> Experiment:
    """An experiment whose classifier knows a class more than the data have, and tells them apart by a pixel."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(25, 4)).eval()
    with torch.no_grad():
        network[1].weight.copy_(torch.eye(4, 25))
    return replace(hardening(tmp_path), classifier=network)


def test_more_classes_than_the_data_name_are_refused_before_anything_is_done(knowing_more: Experiment) -> None:
    message = r"few: has 3 classes \('a', 'b', 'é'\), the model 4 without names, .*; name them by their numbers, 0 to 3"
    with pytest.raises(DataError, match=message):
        knowing_more.check()
    assert not list(knowing_more.out.iterdir())


def test_without_labels_more_classes_stay_without_names(knowing_more: Experiment) -> None:
    bare = replace(knowing_more.train, labels=None, classes=())
    experiment = replace(knowing_more, sets=(bare, bare))
    experiment.carry_out()
    assert experiment.defence().class_names is None


def test_a_classifier_that_names_its_classes_is_taken_at_its_word(
    knowing_more: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("c", "é", "a", "b")
    knowing_more.classifier.class_names = names  # type: ignore[union-attr, assignment]
    own, stages = knowing_more.train.required_labels, []
    told = HARDENED.format(data="few").replace("rate: 0.01", "rate: 0.01, labels: true")
    monkeypatch.setattr(Experiment, "_fit", lambda _, stage: stages.append(stage))
    experiment = replace(knowing_more, recipe=recipe(told))
    experiment.carry_out()
    assert experiment.defence().class_names == names
    assert [[names[label] for label in stage.labels] for stage in stages] == [["abé"[label] for label in own]] * 2


class Viewing(nn.Module):
    """A classifier that flattens with `view` what lies row by row: maps, or the images themselves."""

    def __init__(self, maps: bool) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 4, 3, padding=1) if maps else nn.Identity()
        self.head = nn.Linear(4 * 256 if maps else 3 * 256, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.maps(images)
        logits: torch.Tensor = self.head(maps.view(len(maps), -1))
        return logits


@pytest.mark.parametrize("maps", [True, False])
def test_a_network_that_flattens_with_view_gets_a_purifier_and_stays_as_it_is(
    maps: bool, tmp_path: Path, pictures: Dataset
) -> None:
    torch.manual_seed(0)
    network, images = Viewing(maps), pictures[:2].images
    before, strides = network(images), [p.stride() for p in network.parameters()]
    told, sets = recipe(HARDENED.format(data="few")), (pictures, pictures)
    experiment = Experiment(told, tmp_path, CPU, network, sets)
    experiment.carry_out()
    assert len(experiment.defence()(images)) == 2
    assert torch.equal(network(images), before)
    assert [p.stride() for p in network.parameters()] == strides
    assert network.training


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[{", "is not JSON"),
        (b"\xff", "is not UTF-8 text; repair or delete it"),
        (b'[{"stage": "purifier"}]', r"\[0\]\.epoch: Field required; repair or delete it"),
        (b'[{"stage": "purifier", "epoch": true}]', r"\[0\]\.epoch: .* number, not True"),
        (b'[{"stage": "purifier", "epoch": 1, "loss": "3"}]', r"\[0\]\.loss: .* number, not '3'"),
        (b"[" * 10**5, r"is not JSON \(recursion limit exceeded"),
        (b'{"stage": "purifier"}', "top level: Input should be a valid array"),
    ],
)
def test_a_damaged_history_is_found_before_training(
    content: bytes,
    message: str,
    tmp_path: Path,
    hardening: Callable[[Path], Experiment],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("carso.training.experiment.fit", lambda *_: pytest.fail("training began"))
    (tmp_path / "history.json").write_bytes(content)
    for begin in (hardening(tmp_path).open, hardening(tmp_path).train_purifier):
        with pytest.raises(RunError, match=rf"history\.json: {message}"):
            begin()
    assert (tmp_path / "history.json").read_bytes() == content


def test_the_history_has_every_epoch_of_every_stage_once(
    tmp_path: Path, hardening: Callable[[Path], Experiment]
) -> None:
    hardening(tmp_path).train_purifier()
    first = (tmp_path / "history.json").read_text()
    (tmp_path / weights.PURIFIER).unlink()
    hardening(tmp_path).train_purifier()
    assert (tmp_path / "history.json").read_text() == first
    found = [(entry["stage"], entry["epoch"]) for entry in read_history(tmp_path)]
    assert found == [(stage, epoch) for stage in ("purifier", "hardening") for epoch in (1, 2)]


def test_checkpoints_of_finished_stages_are_cleared_away(
    tmp_path: Path, hardening: Callable[[Path], Experiment]
) -> None:
    experiment = hardening(tmp_path)
    experiment.open()
    experiment.train_purifier()
    left = [tmp_path / "checkpoints" / f"{name}.safetensors" for name in ("purifier", "hardening", "undefended")]
    for path in left:
        path.write_bytes(b"left")
    experiment.open()
    assert [path.exists() for path in left] == [False, False, True]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name: other\n", b""])
def test_a_folder_with_another_recipe_is_refused_whatever_its_bytes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(RunError, match=r"recipe\.yaml.*; choose another --out"):
        Experiment(recipe(), tmp_path, CPU).open()
    assert (tmp_path / "recipe.yaml").read_bytes() == content


COLOUR = """name: colour
samples: 8
classifier: {architecture: resnet, width: 4, blocks: [1, 1]}
adversarial:
  {epochs: 2, batch: 20, rate: 0.05, optimiser: sgd, clean: false, crop: 2, flip: true,
   attacks: [{attack: pgd, eps: 0.03, steps: 2}]}
purifier: {layers: [stem, groups, output], code: 8, latent: 4}
purification: {epochs: 1, batch: 20, rate: 0.01, attacks: [{attack: fgsm, eps: 0.03}]}
"""


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (60,), generator=generator)
    images = 0.2 * torch.rand(60, 3, 16, 16, generator=generator)
    images[torch.arange(60), labels] += 0.6
    dataset = Dataset("pictures", images, labels, ("red", "green", "blue"))
    monkeypatch.setattr("carso.data.load", lambda name, split: dataset)
    return dataset


def test_colour_pictures_from_nothing_to_a_convolutional_defence(tmp_path: Path, pictures: Dataset) -> None:
    experiment = Experiment(recipe(COLOUR), tmp_path, CPU)
    experiment.carry_out()
    defence = experiment.defence()
    assert isinstance(defence.classifier, ResNet)
    assert isinstance(defence.purifier, ConvolutionalPurifier)
    assert defence.votes(pictures.images[:5]).sum(1).tolist() == [8] * 5
    assert defence.class_names == ("red", "green", "blue")
    assert defence.calibration is not None
    assert defence.calibration.n == 60
    before = weights.digest(defence.purifier)
    experiment.carry_out()
    assert weights.digest(experiment.defence().purifier) == before


def test_what_a_factory_makes_is_trained_where_the_recipe_says_so(
    tmp_path: Path, pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "networks_for_this_test.py").write_text(
        "import torch\nfrom carso.nn import ResNet\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return ResNet((3, 16, 16), 3, width=4, blocks=(1,)).eval()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = 'factory: "networks_for_this_test:build"'
    text = COLOUR.replace("architecture: resnet, width: 4, blocks: [1, 1]", own)
    text += "undefended: {epochs: 1, batch: 20, batches: 1, rate: 0.05}\n"
    experiment = Experiment(recipe(text), tmp_path / "out", CPU)
    experiment.carry_out()
    undefended = experiment.undefended()
    assert undefended is not None
    assert weights.digest(undefended) != weights.digest(experiment.defence().classifier)
    fresh = call("networks_for_this_test:build")
    assert weights.digest(experiment.defence().classifier) != weights.digest(fresh)
    again = weights.load(tmp_path / "out", fresh)
    assert weights.digest(again.classifier) == weights.digest(experiment.defence().classifier)
    assert again.classifier is not fresh


def test_what_the_user_goes_on_with_is_neither_trained_nor_moved(
    tmp_path: Path, pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = ResNet((3, 16, 16), 3, width=4, blocks=(1,)).train()
    before = weights.digest(network)
    monkeypatch.setattr("builtins.network_for_this_test", lambda: network, raising=False)
    own = 'factory: "builtins:network_for_this_test"'
    text = COLOUR.replace("architecture: resnet, width: 4, blocks: [1, 1]", own)
    experiment = Experiment(recipe(text), tmp_path, CPU, sets=(pictures, pictures))
    experiment.open()
    experiment.train_classifier()
    assert weights.digest(network) == before
    assert network.training
    given = Experiment(recipe(COLOUR), tmp_path / "given", torch.device("meta"), network.eval(), (pictures, pictures))
    with pytest.raises(RuntimeError, match="meta"):
        given.pending()[0].build(4, 2)
    assert next(network.parameters()).device == CPU


def test_what_cannot_be_copied_is_taken_as_it_is() -> None:
    network = nn.Linear(2, 2)
    network.held = network.weight * 2  # type: ignore[assignment]
    assert copied(network) is network


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is")
def test_a_copy_may_be_trained_where_what_was_copied_may() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    for given in (network, torch.jit.script(network)):
        twin = copied(given)
        assert twin is not given
        assert [(p.is_leaf, p.requires_grad) for p in twin.parameters()] == [(True, asks) for asks in (0, 0, 1, 1)]


def test_images_of_the_users_own_stand_in_for_those_of_the_recipe(tmp_path: Path, pictures: Dataset) -> None:
    digests = set()
    items = TensorDataset(pictures.images, pictures.required_labels)
    for name, sets in (("named", None), ("own", (from_torch(items, "pictures", pictures.classes),) * 2)):
        experiment = Experiment(recipe(COLOUR), tmp_path / name, CPU, sets=sets)
        experiment.carry_out()
        assert experiment.defence().class_names == ("red", "green", "blue")
        digests.add(weights.digest(experiment.defence().purifier))
    assert len(digests) == 1


def test_contrast_is_a_defence_which_the_undefended_network_does_without(tmp_path: Path, pictures: Dataset) -> None:
    stage = "{epochs: 1, batch: 8, rate: 0.001}"
    text = f"name: x\nclassifier: {{hidden: [5], contrast: 0.1}}\nundefended: {stage}\nadversarial: {stage}\n"
    experiment = Experiment(recipe(text), tmp_path, CPU, sets=(pictures, pictures))
    experiment.open()
    experiment.train_undefended()
    experiment.train_classifier()
    files = weights.UNDEFENDED, weights.CLASSIFIER
    undefended, classifier = (dict(weights.load_classifier(tmp_path / file).named_children()) for file in files)
    assert undefended.keys() == classifier.keys() - {"contrast"} != classifier.keys()


def test_a_recipe_makes_the_pictures_of_a_folder_alike(tmp_path: Path) -> None:
    for number in range(24):
        path = tmp_path / "set" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8 + number, 9), (number, 0, 255 - number)).save(path)
    (tmp_path / "set" / "a" / "00.png").write_bytes(b"")
    text = f"name: x\ndata: {tmp_path / 'set'}\nsize: 6x7\nchannels: 1\nskip_bad: true\n"
    experiment = Experiment(recipe(text), tmp_path / "out", CPU)
    assert experiment.train.shape == experiment.validation.shape == (1, 6, 7)
    assert (len(experiment.train), len(experiment.validation)) == (17, 2)
    with pytest.raises(DataError, match=r"a/00\.png: is not a PNG"):
        _ = Experiment(recipe(text.replace("skip_bad: true\n", "")), tmp_path / "out", CPU).train


def test_more_attacked_images_than_are_kept_are_missed_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = tuple(Dataset("d", torch.rand(n, 1, 8, 8), torch.arange(n) % 3, tuple("abc")) for n in (30, 10))
    monkeypatch.setattr("carso.training.purifier.ATTACKED_KEPT", 2 * 30 * 64 - 1)
    told = TEXT.format(seed=0).replace("rate: 0.1", "rate: 0.1, attacks: [{attack: pgd, eps: 0.1}]")
    with pytest.raises(RecipeError, match="purifier: attacked once and kept"):
        Experiment(recipe(told), tmp_path, CPU, sets=sets).check()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("feed: pairs, pairs: {0}/8.npz, labels: true", r"purifier: labels: true, and .*8\.npz has no labels"),
        ("feed: pairs, pairs: {0}/9.npz", r"purifier: pairs: .*9\.npz has images of \(1, 9, 9\), not \(1, 8, 8\)"),
        ("feed: pairs, pairs: {0}/labelled.npz", r"labelled\.npz: label 2 of image 2 is not one of the 2 classes"),
        ("feed: pairs, pairs: {0}/none.npz", r"none\.npz: there is no such file"),
        ("attacks: [{{attack: pgd, eps: 0.1, loss: dlr}}]", "purifier: loss: dlr needs 3 classes or more"),
    ],
)
@pytest.mark.parametrize("own", [None, MLP((1, 8, 8), (6,), 2).eval()])
def test_what_a_purifier_is_fed_is_looked_at_before_anything_is_trained(
    own: nn.Module | None, told: str, message: str, tmp_path: Path
) -> None:
    images = {side: torch.rand(4, 1, side, side) for side in (8, 9)}
    for side, some in images.items():
        save_pairs(tmp_path / f"{side}.npz", some, some)
    save_pairs(tmp_path / "labelled.npz", images[8], images[8], torch.arange(4))
    few = Dataset("few", images[8], torch.arange(4) % 2, ("a", "b"))
    text = TEXT.format(seed=0).replace("rate: 0.1", f"rate: 0.1, {told.format(tmp_path)}")
    with pytest.raises((RecipeError, DataError), match=message):
        Experiment(recipe(text), tmp_path / "out", CPU, own, sets=(few, few)).check()
    write_text(tmp_path / "out" / weights.PURIFIER, "done")
    Experiment(recipe(text), tmp_path / "out", CPU, own, sets=(few, few)).check()


def test_pairs_are_read_once_and_bring_their_labels_and_the_classes_keep_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = torch.rand(30, 1, 8, 8), torch.arange(30) % 3
    train = Dataset("d", images, labels, ("ant", "bee", "cat"))
    save_pairs(tmp_path / "pairs.npz", images, images, labels)
    told = f"epochs: 1, batch: 10, rate: 0.01, feed: pairs, pairs: {tmp_path / 'pairs.npz'}, labels: true"
    network = MLP((1, 8, 8), (6,), 3).eval()
    text = f"name: x\npurification: {{{told}}}\n"
    read: list[str] = []
    monkeypatch.setattr("carso.data.load_pairs", lambda path: read.append(path) or load_pairs(path))
    experiment = Experiment(recipe(text), tmp_path / "out", CPU, network, sets=(train, train[:10]))
    experiment.carry_out()
    assert experiment.defence().class_names == ("ant", "bee", "cat")
    assert read == [str(tmp_path / "pairs.npz")]


def test_labels_of_pairs_are_as_the_classifier_numbers_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = torch.rand(30, 1, 8, 8), torch.arange(30) % 4
    train = Dataset("d", images, labels % 3, ("ant", "bee", "cat"))
    network = MLP((1, 8, 8), (6,), 4).eval()
    network.class_names = ("cat", "ant", "bee", "dog")
    save_pairs(tmp_path / "pairs.npz", images, images, labels)
    told = f"epochs: 1, batch: 10, rate: 0.01, feed: pairs, pairs: {tmp_path / 'pairs.npz'}, labels: true"
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(Experiment, "_fit", lambda _, stage: seen.append(stage.labels))
    text = f"name: x\npurification: {{{told}}}\n"
    Experiment(recipe(text), tmp_path / "out", CPU, network, sets=(train, train[:10])).carry_out()
    assert [found.tolist() for found in seen] == [labels.tolist()]
