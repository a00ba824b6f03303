import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import carso
from carso.ablations import Ablated
from carso.audit import read_audit
from carso.defence import CARSO
from carso.detection import Calibration
from carso.errors import ModelError, RunError, WeightsError
from carso.nn import CNN, MLP, Contrast, ResNet
from carso.nn.maps import Maps
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.representation import Representation
from carso.storage import weights
from carso.storage.files import write_text
from carso.storage.tensors import read_tensors, write_tensors
from carso.vote import AGGREGATES, Aggregation


@pytest.fixture
def defence() -> carso.CARSO:
    return carso.CARSO(
        MLP((1, 8, 8), (12, 7)), Purifier((1, 8, 8), 29, latent=6), samples=40, aggregation="mean-probability"
    )


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object], sign: bool = True) -> None:
    """Change the description and the tensors of a file; without `sign`, write it as files were before digests."""
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["carso"])
    tensors, _ = read_tensors(path, about["kind"])
    about.pop("digest")
    change(about, tensors)
    if sign:
        write_tensors(path, tensors, about)
    else:
        save_file(tensors, path, metadata={"carso": json.dumps(about)})


@pytest.mark.parametrize("half", [False, True])
def test_a_saved_defence_comes_back(defence: carso.CARSO, tmp_path: Path, half: bool) -> None:
    if half:
        defence.half().float()
    weights.save(defence, tmp_path, {"seed": 7}, half=half)
    again = carso.load(tmp_path)
    images = torch.rand(5, 1, 8, 8)
    answers = [d(images, torch.Generator().manual_seed(0)) for d in (defence, again)]
    assert torch.equal(*answers)
    assert (again.samples, again.aggregation) == (40, "mean-probability")
    assert weights.about(tmp_path / weights.PURIFIER, "purifier")["seed"] == 7


def test_convolutions_come_back(tmp_path: Path) -> None:
    maps = Maps([(1, 8, 8), (12,), (10,)], (3, 5))
    purifier = Purifier((1, 8, 8), 86, latent=6, representation=(20, 9), maps=maps)
    defence = carso.CARSO(MLP((1, 8, 8), (12,), maps=(2,)), purifier, ("input", "mish1", "output"), samples=40)
    weights.save(defence, tmp_path)
    again, images = carso.load(tmp_path), torch.rand(5, 1, 8, 8)
    assert again.purifier.maps.channels == (3, 5)
    assert torch.equal(again.codes(images), defence.codes(images))


def test_a_foreign_classifier_must_be_given_and_must_be_the_right_one(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
    weights.save(carso.CARSO(own, Purifier((1, 8, 8), 8)), tmp_path)
    with pytest.raises(WeightsError, match="pass it"):
        carso.load(tmp_path)
    assert carso.load(tmp_path, own).classifier is own
    with torch.no_grad():
        own[1].bias += 1
    with pytest.raises(WeightsError, match="other weights"):
        carso.load(tmp_path, own)


def test_a_foreign_classifier_that_cannot_be_copied_is_filled_itself(tmp_path: Path) -> None:
    own, fresh = (nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3)) for _ in range(2))
    weights.save_classifier(own, tmp_path / weights.CLASSIFIER, {"trained": True})
    fresh.grown = fresh[1].weight * 1  # as `torch.nn.utils.weight_norm` leaves one, which deepcopy refuses
    assert weights.load_classifier(tmp_path / weights.CLASSIFIER, fresh) is fresh
    assert weights.digest(fresh) == weights.digest(own)


def test_a_purifier_is_restored_before_its_own_classifier_alone(defence: carso.CARSO, tmp_path: Path) -> None:
    weights.save(defence, tmp_path)
    purifier = Purifier((1, 8, 8), 29, latent=6)
    with pytest.raises(WeightsError, match=r"purifier\.safetensors was trained for .* other weights; pass the one"):
        weights.restore_purifier(purifier, tmp_path / weights.PURIFIER, MLP((1, 8, 8), (12, 7)))
    assert weights.digest(purifier) != weights.digest(defence.purifier)
    weights.restore_purifier(purifier, tmp_path / weights.PURIFIER, defence.classifier)
    assert weights.digest(purifier) == weights.digest(defence.purifier)


@pytest.mark.parametrize("file", [weights.CLASSIFIER, weights.PURIFIER])
def test_damaged_files_are_named(defence: carso.CARSO, tmp_path: Path, file: str) -> None:
    weights.save(defence, tmp_path)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=file):
        carso.load(tmp_path)


def test_files_that_do_not_belong_are_refused(defence: carso.CARSO, tmp_path: Path) -> None:
    weights.save(defence, tmp_path)
    weights.save_classifier(defence.classifier, tmp_path / weights.PURIFIER)
    with pytest.raises(WeightsError, match="is of the kind classifier, not purifier"):
        carso.load(tmp_path)
    (tmp_path / weights.PURIFIER).write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(WeightsError, match="truncated or not a safetensors"):
        carso.load(tmp_path)


def test_a_full_disk_leaves_the_old_file_whole(
    defence: carso.CARSO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.save(defence, tmp_path)
    before = (tmp_path / weights.PURIFIER).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("carso.storage.tensors.save_file", full)
    with pytest.raises(RunError, match=r"No space left.*untouched"):
        weights.save(defence, tmp_path)
    assert (tmp_path / weights.PURIFIER).read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_text_is_replaced_in_one_move(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "old")
    write_text(tmp_path / "a" / "b.txt", "new")
    assert (tmp_path / "a" / "b.txt").read_text() == "new"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


@pytest.mark.parametrize("name", weights.shipped())
def test_a_shipped_audit_is_of_the_shipped_weights(name: str) -> None:
    found = read_audit(weights.find(name))
    assert found.weights == weights.digest(carso.load(name))
    kept = Path(__file__).parents[2] / "benchmarks" / "results" / f"{name.removeprefix('mnist-')}-audit" / "carso"
    assert found == read_audit(kept)


@pytest.mark.parametrize("name", sorted({*weights.shipped(weights.CLASSIFIER)} - {*weights.shipped()}))
def test_a_classifier_that_ships_alone_is_the_one_that_was_audited(name: str) -> None:
    folder = weights.find(name, weights.CLASSIFIER)
    assert read_audit(folder).weights == weights.digest(weights.load_classifier(folder / weights.CLASSIFIER))
    kept = Path(__file__).parents[2] / "benchmarks" / "results" / "ladder" / name.removeprefix("mnist-")
    assert read_audit(folder) == read_audit(kept)
    with pytest.raises(WeightsError, match=f"^{name} is a plain classifier .* audit, take it as {name}/classifier$"):
        carso.load(name)


def test_the_hardened_purifier_stands_before_the_same_classifier() -> None:
    hardened, plain = (weights.digest(carso.load(name).classifier) for name in ("mnist-strong", "mnist-thesis"))
    assert hardened == plain


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_saved(defence: carso.CARSO, tmp_path: Path, value: float) -> None:
    weights.save(defence, tmp_path)
    before = (tmp_path / weights.PURIFIER).read_bytes()
    with torch.no_grad():
        defence.purifier.decoder[0].bias[3] = value
    with pytest.raises(WeightsError, match=r"purifier\.safetensors: 'decoder\.0\.bias' holds NaN or infinity"):
        weights.save(defence, tmp_path)
    assert (tmp_path / weights.PURIFIER).read_bytes() == before
    with torch.no_grad():
        defence.classifier.linear1.weight[0, 0] = value
    with pytest.raises(WeightsError, match=r"classifier\.safetensors: 'linear1\.weight' holds NaN"):
        weights.save(defence, tmp_path)


def test_a_classifier_of_ones_own_may_hold_infinity_in_a_buffer(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    own.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    path = tmp_path / weights.CLASSIFIER
    weights.save_classifier(own, path, {"trained": True})
    for again in (weights.with_own_weights(own, path), weights.load_classifier(path, own)):
        assert again is not own
        assert weights.digest(again) == weights.digest(own)
    rewrite(path, lambda _, tensors: tensors["1.weight"].fill_(torch.nan))
    with pytest.raises(WeightsError, match=r"'1\.weight' holds NaN or infinity; restore it"):
        weights.with_own_weights(own, path)
    with torch.no_grad():
        own[1].bias[0] = torch.nan
    with pytest.raises(WeightsError, match=r"'1\.bias' holds NaN"):
        weights.save_classifier(own, path)


@pytest.mark.parametrize("sign", [True, False])
@pytest.mark.parametrize("file", [weights.CLASSIFIER, weights.UNDEFENDED, weights.PURIFIER])
def test_weights_that_are_not_finite_are_not_loaded(
    defence: carso.CARSO, tmp_path: Path, file: str, sign: bool
) -> None:
    weights.save(defence, tmp_path)
    weights.save_classifier(defence.classifier, tmp_path / weights.UNDEFENDED)
    rewrite(tmp_path / file, lambda _, tensors: next(iter(tensors.values())).fill_(torch.nan), sign)
    with pytest.raises(WeightsError, match=f"{file}: .* holds NaN or infinity; restore it"):
        carso.load(tmp_path).to(weights.load_undefended(tmp_path))


@pytest.mark.parametrize("aggregation", sorted(AGGREGATES))
@pytest.mark.parametrize("samples", [40, 3000])
def test_weights_that_are_not_finite_have_no_vote(defence: carso.CARSO, aggregation: Aggregation, samples: int) -> None:
    defence.aggregation, defence.samples, images = aggregation, samples, torch.rand(2, 1, 8, 8)
    assert not defence(images).isnan().any()
    with torch.no_grad():
        defence.purifier.decoder[0].weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="no vote can be taken: candidates have NaN"):
        defence.predict(images)
    with pytest.raises(ModelError, match=r"the purifier's decoder\.0\.weight holds NaN"):
        carso.CARSO(defence.classifier, defence.purifier)


@pytest.mark.parametrize("file", [weights.CLASSIFIER, weights.UNDEFENDED, weights.PURIFIER])
@pytest.mark.parametrize("place", [-1, -2000])
def test_one_changed_byte_is_found(defence: carso.CARSO, tmp_path: Path, file: str, place: int) -> None:
    weights.save(defence, tmp_path)
    weights.save_classifier(defence.classifier, tmp_path / weights.UNDEFENDED)
    content = bytearray((tmp_path / file).read_bytes())
    content[place] ^= 1
    (tmp_path / file).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{file} was changed after it was written.*restore it, or make it anew"):
        carso.load(tmp_path).to(weights.load_undefended(tmp_path))


def test_one_changed_setting_is_found(defence: carso.CARSO, tmp_path: Path) -> None:
    weights.save(defence, tmp_path)
    path = tmp_path / weights.PURIFIER
    changed = path.read_bytes().replace(b'\\"samples\\": 40', b'\\"samples\\": 41')
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with pytest.raises(WeightsError, match="was changed after it was written"):
        carso.load(tmp_path)


def test_files_from_before_there_were_digests_still_load(defence: carso.CARSO, tmp_path: Path) -> None:
    weights.save(defence, tmp_path)
    rewrite(tmp_path / weights.CLASSIFIER, lambda about, _: about["options"].pop("maps"), sign=False)
    rewrite(tmp_path / weights.PURIFIER, lambda about, _: (about.pop("classes"), about.pop("maps")), sign=False)
    again = carso.load(tmp_path)
    assert weights.digest(again) == weights.digest(defence)
    assert (again.samples, again.aggregation, again.class_names) == (40, "mean-probability", None)


@pytest.mark.parametrize(("rule", "aggregation"), [("mean", "mean-probability"), ("mode", "mode")])
def test_files_from_before_the_rule_was_an_aggregation_still_load(
    defence: carso.CARSO, tmp_path: Path, rule: str, aggregation: str
) -> None:
    weights.save(defence, tmp_path)
    rewrite(tmp_path / weights.PURIFIER, lambda about, _: (about.pop("aggregation"), about.update(rule=rule)))
    assert carso.load(tmp_path).aggregation == aggregation


@pytest.mark.parametrize("aggregation", sorted(AGGREGATES))
def test_an_aggregation_comes_back(defence: carso.CARSO, tmp_path: Path, aggregation: Aggregation) -> None:
    defence.aggregation = aggregation
    weights.save(defence, tmp_path)
    assert carso.load(tmp_path).aggregation == aggregation


HUGE = {name: [10**7, 10**7] for name in ("image", "representation", "encoder", "decoder")}


@pytest.mark.parametrize("sign", [True, False])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("aggregation", "median", "aggregation: Input should be 'mode', .* or 'peel', not 'median'"),
        ("stop", "now", "stop: Input should be 'never', 'exact' or 'confident'"),
        ("samples", 10**9, "samples: Input should be less than or equal to 10000, not 1000000000"),
        ("samples", True, "samples: Input should be a valid integer, not True"),
        ("samples", "40", "samples: Input should be a valid integer, not '40'"),
        ("samples", 0, "samples: Input should be greater than or equal to 1"),
        ("error", 1.5, "error: Input should be less than 1"),
        ("error", float("nan"), "error: Input should be a finite number"),
        ("shape", [1, 8], r"shape\[2\]: Field required"),
        ("latent", -6, "latent: Input should be greater than or equal to 1"),
        ("neurons", 10**12, "neurons: Input should be less than or equal to"),
        ("widths", {"image": [3]}, r"widths\.representation: Field required"),
        ("widths", HUGE, "does not fit its own description"),
        ("latent", 10**7, "does not fit its own description"),
        ("maps", {"shapes": [[0]], "channels": [1]}, r"maps\.shapes\[0\]\[0\]: Input should be greater"),
        ("layers", "mish1", "layers: Input should be a valid array, not 'mish1'"),
        ("layers", ["mish1", "nothing"], "the classifier has no layer 'nothing'"),
        ("layers", ["mish1"], "the purifier was made for 29 neurons"),
        ("classifier", 7, "classifier: Input should be a valid string"),
        ("classes", ["one", "two"], "names 2 classes, the classifier knows 10"),
        ("calibration", {"n": 9, "lowest": [-1.0, -2.0]}, "calibration: .*lowest must be ascending"),
        (
            "calibration",
            {"n": 9, "lowest": [1.0]},
            r"calibration\.lowest\[0\]: Input should be less than or equal to 0",
        ),
        ("calibration", {"n": 9, "lowest": []}, r"calibration\.lowest: .*at least 1 item"),
    ],
)
def test_every_setting_of_a_purifier_is_held_to_its_schema(
    defence: carso.CARSO, tmp_path: Path, field: str, value: object, message: str, sign: bool
) -> None:
    weights.save(defence, tmp_path)
    rewrite(tmp_path / weights.PURIFIER, lambda about, _: about.update({field: value}), sign)
    with pytest.raises(WeightsError, match=rf"purifier\.safetensors.*({message})") as caught:
        carso.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.pop("samples"), "samples: Field required"),
        (lambda about: about.update(kind=["purifier"]), r"is of the kind \['purifier'\], not purifier"),
        (lambda about: about.update(aggregation="x" * 10**6), "aggregation: .*…"),
    ],
)
def test_messages_about_files_stay_short(
    defence: carso.CARSO, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    weights.save(defence, tmp_path)
    rewrite(tmp_path / weights.PURIFIER, lambda about, _: change(about))
    with pytest.raises(WeightsError, match=message) as caught:
        carso.load(tmp_path)
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden", [10**7, 7], "does not fit its own description"),
        ("dropout", 2, r"options\.dropout"),
        ("output", "softmax", r"options\.output"),
        ("mean", [0.1, 0.2], r"options: .*1 values each"),
        ("classes", 1, r"options\.classes"),
    ],
)
def test_every_option_of_a_classifier_is_held_to_its_schema(
    defence: carso.CARSO, tmp_path: Path, field: str, value: object, message: str
) -> None:
    weights.save(defence, tmp_path)
    rewrite(tmp_path / weights.CLASSIFIER, lambda about, _: about["options"].update({field: value}))
    with pytest.raises(WeightsError, match=rf"classifier\.safetensors.*{message}"):
        carso.load(tmp_path)


def test_a_header_that_recurses_is_damage(defence: carso.CARSO, tmp_path: Path) -> None:
    weights.save(defence, tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / weights.PURIFIER, metadata={"carso": "[" * 10**5})
    with pytest.raises(WeightsError, match="is truncated or not a safetensors file"):
        carso.load(tmp_path)


def test_the_names_of_the_classes_are_kept(defence: carso.CARSO, tmp_path: Path) -> None:
    assert defence.class_names is None
    defence.class_names = tuple(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    weights.save(defence, tmp_path)
    assert carso.load(tmp_path).class_names == defence.class_names
    assert carso.load("mnist-thesis").class_names is None


@pytest.mark.parametrize("recipe", [None, {"data": "cifar10"}])
def test_the_data_are_kept_also_without_a_recipe(
    recipe: dict[str, Any] | None, defence: carso.CARSO, tmp_path: Path
) -> None:
    defence.data, defence.class_names = "fashion-mnist", TEN
    weights.save(defence, tmp_path, {"recipe": recipe})
    expected = "fashion-mnist" if recipe is None else "cifar10"
    assert carso.load(tmp_path).data == weights.origin(tmp_path).data == expected
    assert weights.origin(tmp_path).names == TEN


TEN = tuple("abcdefghij")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("class_names", tuple(range(10)), r"classes\[0\]: .* string, not 0"),
        ("class_names", ("", *TEN[1:]), r"classes\[0\]: .* at least 1 character"),
        ("class_names", ("x" * 301, *TEN[1:]), r"classes\[0\]: .* at most 300 characters"),
        ("class_names", ("caf\udce9", *TEN[1:]), "surrogate"),
        ("class_names", TEN[1:], "class_names are 9, the classifier knows 10"),
        ("calibration", Calibration(9, (-float("inf"),)), r"calibration\.lowest\[0\]: .* finite"),
        ("error", 2.0, "error: .* less than 1, not 2.0"),
        ("samples", 10_001, "votes by at most 10,000 samples"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(
    setting: str, value: object, message: str, defence: carso.CARSO, tmp_path: Path
) -> None:
    weights.save(defence, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with torch.no_grad():
        for parameter in defence.classifier.parameters():
            parameter.add_(1)
    setattr(defence, setting, value)
    with pytest.raises(WeightsError, match=rf"purifier\.safetensors.*{message}"):
        weights.save(defence, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda defence: defence.fixed(3), "its latents fixed by seed 3, and what is read back draws fresh ones"),
        (lambda defence: Ablated(defence, without_latents=True), "this is Ablated, and what is read back is CARSO"),
    ],
)
def test_what_would_be_read_back_as_another_defence_is_not_written(
    changed: Callable[[CARSO], CARSO], message: str, defence: carso.CARSO, tmp_path: Path
) -> None:
    for save in (weights.save, lambda other, folder: weights.save_purifier(other, folder / weights.PURIFIER)):
        with pytest.raises(WeightsError, match=rf"purifier\.safetensors was not written.*: {message}$"):
            save(changed(defence), tmp_path)
    assert not list(tmp_path.iterdir())


def test_thresholds_are_kept(defence: carso.CARSO, tmp_path: Path) -> None:
    weights.save(defence, tmp_path)
    assert carso.load(tmp_path).calibration is None
    defence.calibrate(torch.rand(30, 1, 8, 8))
    weights.save(defence, tmp_path)
    assert carso.load(tmp_path).calibration == defence.calibration
    for shipped in map(carso.load, weights.shipped()):
        assert shipped.detect(torch.rand(2, *shipped.purifier.shape)).threshold < 0


def test_loading_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    carso.load("mnist")
    assert torch.equal(torch.rand(3), expected)


def test_a_cnn_comes_back_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier, images = CNN((1, 12, 16), (2,), (5,), 3, contrast=0.3).eval(), torch.rand(2, 1, 12, 16)
    weights.save_classifier(classifier, tmp_path / "classifier.safetensors")
    again = weights.load_classifier(tmp_path / "classifier.safetensors")
    assert isinstance(again, CNN)
    assert [layer.eps for layer in again.modules() if isinstance(layer, Contrast)] == [0.3]
    assert torch.equal(again(images), classifier(images))


@pytest.mark.parametrize("maps", [(), (4, 6)])
def test_a_convolutional_defence_comes_back_as_it_was(maps: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = ResNet((3, 16, 16), 4, width=4, blocks=(1, 1))
    layers = ["input", "stem", "groups", "output"]
    shapes = [
        shape for each in Representation(classifier, layers).shapes(torch.rand(1, 3, 16, 16)).values() for shape in each
    ]
    purifier = ConvolutionalPurifier((3, 16, 16), shapes, latent=5, code=6, compression="bounded", maps=maps)
    defence = CARSO(classifier, purifier, layers, samples=8)
    weights.save(defence, tmp_path, half=True)
    again, images = weights.load(tmp_path), torch.rand(3, 3, 16, 16)
    assert isinstance(again.classifier, ResNet)
    assert isinstance(again.purifier, ConvolutionalPurifier)
    assert torch.allclose(again.classifier(images), defence.classifier.eval()(images), atol=0.02)
    z = torch.randn(2, 5)
    assert torch.allclose(again.recall(images, latents=z), defence.recall(images, latents=z), atol=0.02)


def test_what_float16_cannot_hold_stays_as_it_is(defence: carso.CARSO, tmp_path: Path) -> None:
    norm = next(layer for layer in defence.purifier.modules() if isinstance(layer, nn.BatchNorm1d))
    assert norm.running_var is not None
    norm.running_var[0] = 1e6
    weights.save(defence, tmp_path, half=True)
    again = next(layer for layer in carso.load(tmp_path).purifier.modules() if isinstance(layer, nn.BatchNorm1d))
    assert again.running_var is not None
    assert torch.equal(again.running_var, norm.running_var)


def test_weights_that_are_tied_are_kept_twice_and_come_back(tmp_path: Path) -> None:
    def tied() -> nn.Sequential:
        inner = nn.Linear(64, 64)
        other = nn.Linear(64, 64)
        other.weight = inner.weight
        return nn.Sequential(nn.Flatten(), inner, nn.ReLU(), other, nn.ReLU(), nn.Linear(64, 3)).eval()

    own, fresh = tied(), tied()
    weights.save_classifier(own, tmp_path / weights.CLASSIFIER, {"trained": True})
    again = weights.with_own_weights(fresh, tmp_path / weights.CLASSIFIER)
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(again(images), own(images))
    assert again[1].weight is again[3].weight


def test_a_defence_of_a_compiled_network_comes_back_with_either(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    compiled = torch.compile(own, backend="eager")
    for number, network in enumerate((own, compiled)):
        weights.save(carso.CARSO(network, Purifier((1, 8, 8), 8)), tmp_path / str(number))
        for other in (own, compiled):
            assert carso.load(tmp_path / str(number), other).classifier is other
    ours = torch.compile(MLP((1, 8, 8), (12,)).eval(), backend="eager")
    weights.save(carso.CARSO(ours, Purifier((1, 8, 8), 22)), tmp_path / "ours")
    assert isinstance(carso.load(tmp_path / "ours").classifier, MLP)


def test_what_no_file_of_weights_can_hold_is_named(defence: carso.CARSO, tmp_path: Path) -> None:
    class Extra(nn.Sequential):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 1}

        def set_extra_state(self, state: object) -> None:
            return

    own = Extra(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    with pytest.raises(WeightsError, match="_extra_state of the Extra is a dict; a file of weights holds tensors only"):
        weights.save(carso.CARSO(own, Purifier((1, 8, 8), 8)), tmp_path)
    many = carso.CARSO(defence.classifier, defence.purifier, defence.representation.layers, samples=10_001)
    with pytest.raises(WeightsError, match="at most 10,000 samples, this one by 10,001"):
        weights.save_purifier(many, tmp_path / weights.PURIFIER)


@pytest.mark.parametrize("build", [MLP, CNN, ResNet])
def test_mean_and_std_are_one_for_all_channels_or_one_each(build: Callable[..., nn.Module], tmp_path: Path) -> None:
    path = tmp_path / weights.CLASSIFIER
    weights.save_classifier(build((3, 28, 28), mean=(0.5,), std=(0.1, 0.2, 0.3)), path)
    assert weights.load_classifier(path)(torch.rand(1, 3, 28, 28)).isfinite().all()
    rewrite(path, lambda about, _: about["options"].update(std=[0.1, 0.2]))
    with pytest.raises(WeightsError, match=r"options: .*mean and std must have 3 values each, one per channel"):
        weights.load_classifier(path)
