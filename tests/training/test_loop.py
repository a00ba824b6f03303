import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from tests.networks import without_batch_norm
from torch import nn
from torch.utils.data import TensorDataset

from carso import progress
from carso.data import Dataset, from_torch
from carso.errors import DivergenceError, RecipeError, RunError, WeightsError
from carso.fast import products
from carso.nn import MLP
from carso.nn.chance import pinned
from carso.purifier import Purifier
from carso.representation import Representation
from carso.storage.tensors import read_tensors, write_tensors
from carso.training.classifier import ClassifierStage
from carso.training.design import purifier_of
from carso.training.loop import Stage, beginning, fit, limited, seed_of
from carso.training.purifier import PurifierStage
from carso.training.recipe import AttackSpec, ClassifierTraining, PurifierSpec, PurifierTraining
from carso.types import Classifier

CPU = torch.device("cpu")
ATTACKS = (AttackSpec(attack="fgsm", eps=0.1), AttackSpec(attack="pgd", eps=0.1, steps=2))


def digits(n: int = 96, labelled: bool = True) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (n,), generator=generator)
    images = torch.rand(n, 1, 4, 4, generator=generator, dtype=torch.float32) * 0.3
    images[torch.arange(n), 0, labels] += 0.6
    return Dataset("bars", images, labels if labelled else None, ("a", "b", "c") if labelled else ())


def classifier_stage(epochs: int = 6, shape: str = "cosine", rate: float = 0.05, **options: object) -> ClassifierStage:
    with beginning(1, "start"):
        model = MLP((1, 4, 4), (8,), 3)
    schedule = ClassifierTraining(
        **{"epochs": epochs, "batch": 16, "rate": rate, "average": 0.9, "attacks": ATTACKS}
        | {"shape": shape, "patience": 1, **options}
    )
    return ClassifierStage("n", model, schedule, digits(), digits(), CPU)


def purifier_stage(
    epochs: int = 4,
    labelled: bool = True,
    model: nn.Module | None = None,
    data: Dataset | None = None,
    **options: object,
) -> PurifierStage:
    with beginning(1, "start"):
        classifier = (model or MLP((1, 4, 4), (8,), 3)).eval()
        representation = Representation(classifier)
        purifier = Purifier((1, 4, 4), 11, latent=2)
    schedule = PurifierTraining(
        **{"epochs": epochs, "batch": 16, "rate": 0.01, "average": 0.9, "attacks": ATTACKS, **options}
    )
    data = data or digits(labelled=labelled)
    return PurifierStage("p", representation, purifier, schedule, data, data, 1, CPU)


def test_attacks_of_both_stages_meet_the_classifier_as_the_device_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[torch.device] = []

    def noted(network: nn.Module, device: torch.device) -> Classifier:
        return lambda images: met.append(device) or network(images)

    monkeypatch.setattr("carso.training.classifier.lowered", noted)
    monkeypatch.setattr("carso.training.purifier.lowered", noted)
    for stage in (classifier_stage(), classifier_stage(trades=1.0, attacks=ATTACKS[1:]), purifier_stage(feed="fresh")):
        met.clear()
        stage.loss(stage.train.images, torch.arange(len(stage.train)), 1)
        assert set(met) == {CPU}
    met.clear()
    purifier_stage(feed="cached")
    assert set(met) == {CPU}


def test_a_classifier_with_convolutions_learns_in_the_products_of_the_processor() -> None:
    with beginning(1, "start"):
        model = MLP((1, 4, 4), (8,), 3, maps=(4,))
    schedule = ClassifierTraining(epochs=6, batch=16, rate=0.05, average=0.9, attacks=ATTACKS)
    stage = ClassifierStage("n", model, schedule, digits(), digits(), CPU)
    assert stage.convolves
    assert stage.loss(stage.train.images[:16], torch.arange(16), 0).dtype is torch.float32
    before = stage.validate()["validation_accuracy"]
    fit(stage, 0, "f")
    assert stage.validate()["validation_accuracy"] > max(before, 80)


class Interrupted:
    """A stage whose user presses Ctrl-C when an epoch begins."""

    def __init__(self, stage: Stage, at: int) -> None:
        self.stage, self.at = stage, at

    def __getattr__(self, name: str) -> object:
        return getattr(self.stage, name)

    def begin(self, epoch: int) -> None:
        if epoch == self.at:
            raise KeyboardInterrupt
        self.stage.begin(epoch)


@pytest.fixture(autouse=True)
def always_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.training.loop.SHARE_OF_TIME_FOR_CHECKPOINTS", float("inf"))


@pytest.mark.parametrize(
    "make",
    [
        classifier_stage,
        lambda: classifier_stage(shape="plateau"),
        lambda: classifier_stage(optimiser="sgd"),
        lambda: purifier_stage(feed="fresh", kl_warmup=0.5),
        lambda: purifier_stage(feed="cached", mixing="parts", consistency=1.0),
        lambda: purifier_stage(shape="linear", flat=0.2, lookahead=5, average=0.0),
    ],
    ids=["cosine", "plateau", "sgd", "fresh", "cached", "lookahead"],
)
def test_a_resumed_run_equals_an_unbroken_one(make: Callable[..., Any], tmp_path: Path) -> None:
    unbroken, first, second = make(), make(), make()
    history = fit(unbroken, 3, "f")
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(first, 2), 3, "f", tmp_path / "c")
    assert fit(second, 3, "f", tmp_path / "c") == history
    for name, value in unbroken.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[name]), name


class Masked(nn.Module):
    """A classifier with a mask that forbids a class by minus infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
        self.register_buffer("mask", torch.tensor([0.0, 0.0, 0.0, -torch.inf]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(images) + self.mask
        return logits


def test_a_mask_of_infinity_is_neither_averaged_nor_taken_for_divergence(tmp_path: Path) -> None:
    schedule = ClassifierTraining(epochs=2, batch=16, rate=0.01, average=0.9)
    for stop in (1, 2):
        with beginning(1, "start"):
            stage = ClassifierStage("n", Masked(), schedule, digits(), digits(), CPU)
        with suppress(KeyboardInterrupt):
            fit(Interrupted(stage, stop), 3, "f", tmp_path / "c")
    assert torch.equal(stage.module.mask, Masked().mask)
    assert all(parameter.isfinite().all() for parameter in stage.module.parameters())


SGD = {"optimiser": "sgd", "average": 0.0}
"""RAdam makes steps of full length of gradients that are zero but for rounding."""


@pytest.mark.parametrize("accumulate", [2, 5])
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: classifier_stage(epochs=2, **options),
        lambda **options: classifier_stage(epochs=2, trades=6.0, attacks=ATTACKS[1:], **options),
        lambda **options: classifier_stage(epochs=2, mixing="steps", flip=True, crop=1, **options),
        lambda **options: purifier_stage(epochs=2, feed="fresh", consistency=1.0, **options),
        lambda **options: purifier_stage(epochs=2, feed="cached", mixing="parts", **options),
    ],
    ids=["classifier", "trades", "steps", "fresh", "cached"],
)
def test_a_batch_in_portions_teaches_what_it_teaches_at_once(
    make: Callable[..., Any], accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "product_dtype", lambda device: torch.float32)
    at_once, in_portions = (without_batch_norm(make(**SGD, accumulate=portions)) for portions in (1, accumulate))
    expected, found = fit(at_once, 3, "f"), fit(in_portions, 3, "f")
    for whole, parts in zip(expected, found, strict=True):
        assert parts == pytest.approx(whole, rel=1e-4)
    weights = in_portions.module.state_dict()
    for name, value in at_once.module.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", ["dense", "convolutional", "corrective"])
def test_a_share_of_a_batch_may_have_no_image_for_an_attack_on_the_defence(
    kind: Literal["dense", "convolutional", "corrective"],
) -> None:
    data = digits(8)
    spec = PurifierSpec(kind=kind)
    attacks = tuple(AttackSpec(attack=name, eps=0.1, steps=2, directed_at="defence") for name in ("pgd", "annealed"))
    options = {"feed": "fresh", "mixing": "parts", "attacks": attacks}
    schedule = PurifierTraining(epochs=1, batch=8, rate=0.01, accumulate=4, **options)
    with beginning(1, "start"):
        representation = Representation(MLP((1, 4, 4), (8,), 3).eval(), ("input", "output"))
        purifier = purifier_of(spec, representation, data)
    stage = PurifierStage("p", representation, purifier, schedule, data, data, 1, CPU)
    assert fit(stage, 0, "f")[0]["loss"] > 0


def test_a_portion_is_all_that_is_worked_on_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, seen = classifier_stage(epochs=1, accumulate=3), []
    loss = stage.loss
    monkeypatch.setattr(stage, "loss", lambda images, *rest: seen.append(len(images)) or loss(images, *rest))
    fit(stage, 3, "f")
    assert seen == [6, 5, 5] * 6


def test_a_batch_has_at_least_an_image_for_each_portion() -> None:
    with pytest.raises(RecipeError, match="accumulate: a batch of 16 images has no 17 portions; at most 16"):
        fit(classifier_stage(accumulate=17), 3, "f")


def test_batch_norm_needs_two_images_in_a_portion() -> None:
    with pytest.raises(RecipeError, match="batch norm needs two images in a portion, and 16 make at most 8"):
        fit(purifier_stage(accumulate=9), 3, "f")
    fit(purifier_stage(epochs=1, accumulate=8), 3, "f")


class Counting:
    """A stage that notes on how many threads its epochs begin."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.threads = stage, set[int]()

    def __getattr__(self, name: str) -> object:
        return getattr(self.stage, name)

    def begin(self, epoch: int) -> None:
        self.threads.add(torch.get_num_threads())
        self.stage.begin(epoch)


@pytest.mark.parametrize(("asked", "used"), [(1, 1), (None, 2)])
def test_training_uses_the_threads_of_its_schedule(asked: int | None, used: int) -> None:
    stage, before = Counting(classifier_stage(epochs=1, threads=asked)), torch.get_num_threads()
    with limited(2):
        fit(stage, 3, "f")
        assert torch.get_num_threads() == 2
    assert stage.threads == {used}
    assert torch.get_num_threads() == before


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(classifier_stage(), 2), 3, "f", tmp_path / "c")
    with pytest.raises(RunError, match="another recipe, seed, classifier or data"):
        fit(classifier_stage(), 3, "g", tmp_path / "c")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: classifier_stage(rate=1e30), "n"),
        (lambda: classifier_stage(rate=1e30, shape="plateau"), "n"),
        (lambda: purifier_stage(rate=1e30), "p"),
        (lambda: purifier_stage(rate=1e30, feed="fresh", consistency=1.0), "p"),
    ],
)
def test_a_diverged_training_is_stopped_where_it_diverges(make: Callable[..., Any], name: str, tmp_path: Path) -> None:
    message = rf"^{name} diverged in epoch \d of \d: its (loss is|weights are) .* at rate 1e\+30;.* lower `rate`"
    with pytest.raises(DivergenceError, match=message):
        fit(make(), 3, "f", tmp_path / "c")
    if (tmp_path / "c").exists():
        tensors, _ = read_tensors(tmp_path / "c", "checkpoint")
        assert all(tensor.isfinite().all() for tensor in tensors.values())


class Diverging:
    """A stage whose loss, in epoch `at`, is that number for one batch alone, or whose module takes it for a weight."""

    def __init__(self, stage: Stage, at: int, value: float, in_weights: bool) -> None:
        self.stage, self.at, self.value, self.in_weights, self.due = stage, at, value, in_weights, False

    def __getattr__(self, name: str) -> object:
        return getattr(self.stage, name)

    def begin(self, epoch: int) -> None:
        self.due = epoch == self.at
        self.stage.begin(epoch)

    def loss(self, images: torch.Tensor, indices: torch.Tensor, part: int) -> torch.Tensor:
        loss, due, self.due = self.stage.loss(images, indices, part), self.due, False
        if due and self.in_weights:
            self.stage.module.spare.fill_(self.value)
            return loss
        return loss + self.value if due else loss


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("in_weights", [False, True])
def test_one_number_that_is_not_finite_ends_its_epoch(value: float, in_weights: bool, tmp_path: Path) -> None:
    found = "its weights are not finite" if in_weights else f"its loss is {value}"
    stage, resumed, unbroken = (classifier_stage() for _ in range(3))
    for each in (stage, resumed, unbroken):
        each.module.register_buffer("spare", torch.zeros(()))
    with pytest.raises(DivergenceError, match=f"^n diverged in epoch 4 of 6: {found} at rate 0.05"):
        fit(Diverging(stage, 3, value, in_weights), 3, "f", tmp_path / "c")
    _, description = read_tensors(tmp_path / "c", "checkpoint")
    assert [entry["epoch"] for entry in description["history"]] == [1, 2, 3]
    assert fit(resumed, 3, "f", tmp_path / "c") == fit(unbroken, 3, "f")
    assert all(map(torch.equal, resumed.module.state_dict().values(), unbroken.module.state_dict().values()))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(classifier_stage(), 2), 3, "f", tmp_path / "c")
    return tmp_path / "c"


@pytest.mark.parametrize("name", ["module.linear1.weight", "average.logits.bias", "optimiser.0.exp_avg_sq"])
def test_a_checkpoint_that_is_not_finite_is_not_gone_on_from(checkpoint: Path, name: str) -> None:
    tensors, description = read_tensors(checkpoint, "checkpoint")
    tensors[name].fill_(torch.nan)
    write_tensors(checkpoint, tensors, description)
    with pytest.raises(WeightsError, match=rf"c: '{name}' holds NaN or infinity; delete it to train this stage"):
        fit(classifier_stage(), 3, "f", checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, _: tensors.pop("module.logits.bias"), "does not fit its own description: 'logits.bias'"),
        (lambda tensors, _: tensors.pop("average.logits.bias"), "does not fit its own description: 'logits.bias'"),
        (lambda tensors, _: tensors.pop("optimiser.0.step"), "does not fit its own description: '0.step'"),
        (lambda tensors, _: tensors.update({"optimiser.x": torch.ones(2)}), "does not fit its own description: 'x'"),
        (lambda tensors, _: tensors.update({"optimiser.0.step": torch.ones(2)}), "description: '0.step'"),
        (lambda _, about: about.pop("plateau"), "is damaged: plateau: Field required"),
        (lambda _, about: about["plateau"].update(waited="1"), r"is damaged: plateau\.waited: .* integer, not '1'"),
        (lambda _, about: about.update(steps=-1), "is damaged: steps: .*, not -1"),
        (lambda _, about: about.update(history={"loss": 1}), "is damaged: history: .* array"),
        (lambda _, about: about.update(history=[{"loss": None}]), r"is damaged: history\[0\]\.loss: .* number"),
    ],
)
def test_what_a_checkpoint_says_is_held_to_its_schema(checkpoint: Path, change: Any, message: str) -> None:
    tensors, description = read_tensors(checkpoint, "checkpoint")
    change(tensors, description)
    write_tensors(checkpoint, tensors, description)
    with pytest.raises(WeightsError, match=rf"{message}.*; delete it to train this stage from its beginning"):
        fit(classifier_stage(), 3, "f", checkpoint)


def test_a_changed_byte_of_a_checkpoint_is_found(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(WeightsError, match="was changed after it was written"):
        fit(classifier_stage(), 3, "f", checkpoint)


def test_the_classifier_learns_under_attack() -> None:
    stage = classifier_stage(epochs=25)
    history = fit(stage, 0, "f")
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["validation_accuracy"] > 95
    assert not stage.module.training


@pytest.mark.parametrize("mixing", ["parts", "steps"])
def test_the_purifier_learns_without_labels(mixing: str) -> None:
    stage = purifier_stage(epochs=30, labelled=False, mixing=mixing, rate=0.03)
    history = fit(stage, 0, "f")
    assert history[-1]["validation_loss"] < 0.9 * history[0]["validation_loss"]


def test_the_frozen_classifier_stays_frozen() -> None:
    stage = purifier_stage(feed="fresh", consistency=1.0)
    before = {name: value.clone() for name, value in stage.classifier.state_dict().items()}
    fit(stage, 0, "f")
    for name, value in stage.classifier.state_dict().items():
        assert torch.equal(value, before[name])


def test_low_precision_descends_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    slopes = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr("carso.fast.products.product_dtype", lambda device, dtype=dtype: dtype)
        stage = purifier_stage(feed="fresh", consistency=1.0, attacks=())
        with beginning(0, "loss"):
            stage.loss(stage.train.images[:64], torch.arange(64), 0).backward()
        slopes.append(torch.cat([p.grad.flatten() for p in stage.module.parameters()]))
    exact, rounded = slopes
    assert torch.cosine_similarity(exact, rounded, 0) > 0.99
    assert not torch.equal(exact, rounded)


def lost(**options: object) -> float:
    """A purifier's loss on one batch, of the same weights and chance for all options."""
    stage = purifier_stage(feed="fresh", mixing="parts", consistency=1.0, **options)
    with beginning(0, "loss"):
        return stage.loss(stage.train.images[:64], torch.arange(64), 0).item()


def test_the_divergence_of_trades_is_none_without_an_attack_and_weighs_what_it_says() -> None:
    assert lost(trades=5.0, attacks=()) == pytest.approx(lost(attacks=()), rel=1e-6)
    once, twice, four_times = (lost(trades=beta) for beta in (250.0, 500.0, 1000.0))
    assert twice > once + 1e-4
    assert four_times - twice == pytest.approx(2 * (twice - once), rel=0.02)


def elsewhere(dataset: Dataset) -> Dataset:
    """The same images, read batch by batch."""
    pairs = TensorDataset(dataset.images, dataset.required_labels)
    return from_torch(pairs, dataset.name, dataset.classes)


@pytest.mark.parametrize("mixing", ["parts", "steps"])
def test_images_may_be_floats_bytes_or_elsewhere(mixing: str) -> None:
    pixels = (digits().images * 255).round().byte()
    as_bytes = replace(digits(), pixels=pixels)
    kinds = {"floats": replace(as_bytes, pixels=pixels / 255), "bytes": as_bytes, "elsewhere": elsewhere(as_bytes)}
    found = {}
    for kind, dataset in kinds.items():
        with beginning(1, "start"):
            model, purifier = MLP((1, 4, 4), (8,), 3), Purifier((1, 4, 4), 11, latent=2)
        first = ClassifierTraining(epochs=2, batch=16, rate=0.05, attacks=ATTACKS, mixing=mixing)
        second = PurifierTraining(epochs=2, batch=16, rate=0.01, attacks=ATTACKS, mixing=mixing, consistency=1.0)
        history = fit(ClassifierStage("n", model, first, dataset, dataset, CPU), 3, "f")
        representation = Representation(model)
        stage = PurifierStage("p", representation, purifier, second, dataset, dataset, 1, CPU)
        found[kind] = history + fit(stage, 3, "f")
    assert found["bytes"] == found["floats"] == found["elsewhere"]


def test_more_attacked_images_than_are_kept_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.training.purifier.ATTACKED_KEPT", 2 * 96 * 16 * 2 - 1)
    with pytest.raises(RecipeError, match=r"p: attacked once and kept, .* would take 0\.0 GB.*; set feed: fresh"):
        purifier_stage(feed="cached")
    purifier_stage(feed="fresh")


def test_pairs_stand_in_for_attacks() -> None:
    data = digits()
    attacked = (data.images + 0.1).clamp(0, 1)
    schedule = PurifierTraining(epochs=2, batch=16, rate=0.01, feed="pairs", pairs="x.npz")
    representation = Representation(MLP((1, 4, 4), (8,), 3).eval())
    stage = PurifierStage("p", representation, Purifier((1, 4, 4), 11, 2), schedule, data, data, 0, CPU, attacked)
    versions, _ = stage._seen(torch.arange(4), data.images[:4], data.required_labels[:4], 1)
    torch.testing.assert_close(versions, attacked[:4])
    assert len(fit(stage, 0, "f")) == 2


@pytest.mark.parametrize("feed", ["fresh", "cached"])
def test_half_of_a_batch_may_be_clean(feed: str) -> None:
    stage = purifier_stage(feed=feed, mixing="parts", clean=2)
    assert stage.parts == 4
    indices = torch.arange(16)
    seen, _ = stage._seen(indices, stage.train.images[indices], stage.labels[indices], 0)
    changed = (seen - stage.train.images[indices]).abs().flatten(1).amax(1) > 1e-3
    assert changed.tolist() == [False] * 8 + [True] * 8


def test_the_kl_term_waits_and_then_rises() -> None:
    stage, beta = purifier_stage(epochs=8, kl_lag=0.25, kl_warmup=0.25, kl_weight=3.0, attacks=()), []
    for epoch in range(6):
        stage.begin(epoch)
        beta.append(stage.beta.item())
    assert beta == pytest.approx([0, 0, 1, 2, 3, 3])


def test_seeds_depend_on_every_name() -> None:
    assert len({seed_of(0), seed_of(1), seed_of(0, "a"), seed_of(0, "a", 1), seed_of(0, "a", 2)}) == 5


def test_a_seed_is_its_number() -> None:
    assert seed_of(np.int64(3), "a") == seed_of(3, "a")


class Shaded(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Images as bright as is drawn whenever they are read."""

    def __init__(self, toss: Callable[[], float]) -> None:
        self.toss, self.digits = toss, digits(48)
        self.targets = self.digits.required_labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        return self.digits.images[position] * (0.1 + 0.9 * self.toss()), self.targets[position]


@pytest.mark.parametrize("feed", ["fresh", "cached"])
@pytest.mark.parametrize("toss", [lambda: torch.rand(()).item(), np.random.rand, random.random])
def test_images_that_are_drawn_follow_from_the_seed(toss: Callable[[], float], feed: str) -> None:
    def learnt(state: int) -> dict[str, torch.Tensor]:
        with pinned(state):
            stage = purifier_stage(2, data=from_torch(Shaded(toss), "shaded"), feed=feed, consistency=1.0)
            fit(stage, 3, "f")
        return stage.module.state_dict()

    first, second = learnt(1), learnt(2)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("make", [classifier_stage, purifier_stage])
def test_another_default_dtype_changes_nothing(make: Callable[[], Stage]) -> None:
    def learnt() -> list[torch.Tensor]:
        stage = make()
        fit(stage, 3, "f")
        return list(stage.module.state_dict().values())

    expected = learnt()
    torch.set_default_dtype(torch.float64)
    try:
        found = learnt()
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(*values) for values in zip(found, expected, strict=True))


def test_seeding_leaves_no_trace() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with beginning(5, "x"):
        torch.rand(2)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("mixing", ["parts", "steps"])
def test_kept_representations_are_those_of_what_is_seen(mixing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    indices, seen = torch.randperm(96)[:32], []
    for most in (2**30, 0):
        monkeypatch.setattr("carso.training.purifier.REPRESENTATIONS_KEPT", most)
        stage = purifier_stage(mixing=mixing)
        assert (stage.represented is None) == (most == 0)
        images, labels = stage.train.images[indices], stage.labels[indices]
        seen.append([stage._seen(indices, images, labels, part) for part in range(3)])
    for (images, kept), (same, fresh) in zip(*seen, strict=True):
        assert torch.equal(images, same)
        torch.testing.assert_close(kept, fresh, atol=1e-5, rtol=1e-5)


def test_an_epoch_may_be_cut_short_and_still_draws_from_all_images() -> None:
    stage = purifier_stage(epochs=8, feed="fresh", batches=2)
    seen: list[int] = []
    loss = stage.loss
    stage.loss = lambda images, indices, part: (seen.extend(indices.tolist()), loss(images, indices, part))[1]
    fit(stage, 0, "f")
    assert len(seen) == 8 * 2 * 16 * stage.passes
    assert len(set(seen)) > 2 * 16


@pytest.mark.usefixtures("fresh_progress")
def test_progress_is_shown_within_an_epoch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    fit(classifier_stage(epochs=2), 0, "f")
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("n, 2 epochs: 8%") and "epoch 1: 17%" in line for line in lines), lines
    assert any("epoch 2: 83%" in line for line in lines)


def test_a_purifier_learns_from_moved_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """About half of what it sees are mirror images, and each is to be recalled as it was seen."""
    stage = purifier_stage(feed="fresh", flip=True, attacks=())
    seen: list[torch.Tensor] = []
    reconstruct = stage.module.reconstruct

    def watched(images: torch.Tensor, codes: torch.Tensor) -> Any:
        seen.append(images)
        return reconstruct(images, codes)

    monkeypatch.setattr(stage.module, "reconstruct", watched)
    images = stage.train.images
    stage.loss(images, torch.arange(96), 0)
    (shown,) = seen
    straight, mirrored = ((shown == as_seen).flatten(1).all(1) for as_seen in (images, images.flip(3)))
    assert (straight | mirrored).all()
    assert 20 < mirrored.sum() < 76


def test_attacked_images_are_made_once_for_stages_with_the_same_classifier() -> None:
    first = purifier_stage(feed="cached")
    shared: dict[str, torch.Tensor] = {}

    def another(**options: object) -> PurifierStage:
        schedule = PurifierTraining(**{**dict(first.schedule), "epochs": 9, **options})
        purifier = Purifier((1, 4, 4), 11, latent=3)
        return PurifierStage("p", first.representation, purifier, schedule, digits(), digits(), 1, CPU, shared=shared)

    second, third = another(), another()
    assert torch.equal(second.kept, first.kept)
    assert third.kept is second.kept
    fewer = another(attacks=ATTACKS[:1])
    assert len(fewer.kept) == 1
    assert list(shared.values()) == [fewer.kept]


def test_the_reconstruction_may_be_held_to_squares() -> None:
    stage, indices = purifier_stage(reconstruction="l2", kl_weight=0.0), torch.arange(4)
    clean = stage.train.images[:4]
    stage.begin(0)
    stage.module.eval()
    with beginning(0, "once"):
        loss = stage.loss(clean, indices, 0)
    with beginning(0, "once"):
        seen, representations = stage._seen(indices, clean, stage.labels[:4], 0)
        reconstructions, *_ = stage.module(seen, representations)
    torch.testing.assert_close(loss, (reconstructions - clean).square().sum() / 4, rtol=1e-3, atol=0)
