"""What is differentiated and voted with is what the modules compute, whoever has replaced what in them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from tests.networks import Scaling
from torch import Tensor, nn
from torch.nn import functional as F

import carso
from carso.attacks import pgd
from carso.errors import ModelError, NoGradientError
from carso.fast import alike, door, faster, full_precision, products, pullback, voting
from carso.fast.door import attempted
from carso.fast.folding import Folded
from carso.fast.network import Network
from carso.fast.products import Reduced
from carso.fast.surrogate import FoldedDefence
from carso.nn import MLP, Standardise
from carso.nn.contrast import Contrast
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.recall import WORTH_FOLDING, recall
from carso.types import Budget
from carso.vote import count

SAMPLES = 100
IMAGES = torch.rand(40, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def defence() -> carso.CARSO:
    """Small and contested: candidates of one image get votes for several classes."""
    torch.manual_seed(0)
    classifier, purifier = MLP((1, 12, 12), (40, 30)), Purifier((1, 12, 12), neurons=80, latent=6)
    for layer in (*classifier.modules(), *purifier.modules()):
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        purifier.decoder[0].weight.mul_(5)
        purifier.decoder[-2].weight.mul_(15)
    return carso.CARSO(classifier, purifier, samples=SAMPLES).eval()


def by_the_modules(whole: carso.CARSO, latents: Tensor) -> Tensor:
    """Logits (B, K, classes), candidate by candidate, through `decode` and the classifier alone."""
    with torch.no_grad():
        codes = whole.purifier.compress(whole.representation(IMAGES)[1])
        each = [whole.classifier(whole.purifier.decode(z.expand(len(codes), -1), codes)) for z in latents]
    return torch.stack(each, dim=1)


def negated(module: nn.Module) -> None:
    old = module.forward
    module.forward = lambda t: -old(t)


def patched(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, change: Callable[[Tensor], Tensor]) -> None:
    """Every call of this function of a class or module answers otherwise from now on."""
    old = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *given, **options: change(old(*given, **options)))


CLASSIFIER: dict[str, Callable[[carso.CARSO, pytest.MonkeyPatch], Any]] = {
    "forward of the whole": lambda whole, _: negated(whole.classifier),
    "forward of a layer": lambda whole, _: negated(whole.classifier.linear2),
    "forward of a dropout": lambda whole, _: negated(whole.classifier.dropout1),
    "hook": lambda whole, _: whole.classifier.mish2.register_forward_hook(lambda m, given, a: 2 * a),
    "class of a layer": lambda _, patch: patched(patch, nn.Mish, "forward", torch.neg),
    "class of the chain": lambda _, patch: patched(patch, nn.Sequential, "forward", lambda a: a.flip(-1)),
    "class of the first layer": lambda _, patch: patched(patch, Standardise, "forward", torch.neg),
    "class of linear layers": lambda _, patch: patched(patch, nn.Linear, "forward", lambda a: a + 0.5),
    "function": lambda _, patch: patched(patch, F, "mish", lambda a: a / 2),
}
PURIFIER: dict[str, Callable[[carso.CARSO, pytest.MonkeyPatch], Any]] = {
    "decode": lambda whole, patch: patched(patch, whole.purifier, "decode", lambda x: 1 - x),
    "class": lambda _, patch: patched(patch, Purifier, "decode", lambda x: 1 - x),
    "first layer of D": lambda whole, _: negated(whole.purifier.decoder[0]),
    "hook on the first layer of D": lambda whole, _: whole.purifier.decoder[0].register_forward_hook(
        lambda m, given, h: h + 1
    ),
    "last layer of D": lambda whole, _: negated(whole.purifier.decoder[-2]),
}
REPLACED = CLASSIFIER | PURIFIER


def test_untouched_modules_fold() -> None:
    whole = defence()
    assert isinstance(faster(whole.classifier, IMAGES), Folded)
    assert isinstance(faster(whole, IMAGES).folded, FoldedDefence)


@pytest.mark.parametrize("name", CLASSIFIER)
def test_a_classifier_is_attacked_as_it_computes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = defence()
    before = whole.classifier(IMAGES)
    CLASSIFIER[name](whole, monkeypatch)
    classifier = whole.classifier
    labels = classifier(IMAGES).argmax(1)
    assert not torch.allclose(classifier(IMAGES), before, atol=0.1)
    assert torch.equal(faster(classifier, IMAGES)(IMAGES), classifier(IMAGES))
    quick, plain = (
        pgd(classifier, IMAGES, labels, Budget("Linf", 0.1), random_start=False, fast=fast) for fast in (None, False)
    )
    assert torch.equal(quick, plain)
    assert not torch.equal(quick, IMAGES)


@pytest.mark.parametrize("name", REPLACED)
def test_a_defence_is_differentiated_as_it_computes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = defence()
    latents = whole.latents(3, torch.Generator().manual_seed(0))
    before = by_the_modules(whole, latents)
    REPLACED[name](whole, monkeypatch)
    expected = by_the_modules(whole, latents)
    assert not torch.allclose(expected, before, atol=0.01)
    with full_precision():
        found = faster(whole, IMAGES).logits(IMAGES, latents=latents)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", REPLACED)
def test_a_vote_is_that_of_the_modules(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = defence()
    latents = whole.latents(SAMPLES, torch.Generator().manual_seed(0))
    before = count(by_the_modules(whole, latents))
    REPLACED[name](whole, monkeypatch)
    expected = count(by_the_modules(whole, latents))
    assert len(IMAGES) * SAMPLES >= WORTH_FOLDING
    found = whole.votes(IMAGES, torch.Generator().manual_seed(0))
    assert (found - expected).abs().sum() <= 4  # of 4000 candidates, for those that rounding moves across a boundary
    assert (before - expected).abs().sum() > 40


@pytest.mark.parametrize("name", PURIFIER)
def test_candidates_are_those_of_the_decoder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = defence()
    REPLACED[name](whole, monkeypatch)
    latents, codes = torch.randn(4, 6), torch.rand(3, whole.purifier.code)
    pairs = torch.stack([whole.purifier.decode(z.expand(3, -1), codes) for z in latents], dim=1)
    torch.testing.assert_close(recall(whole.purifier, latents, codes), pairs)


def test_the_negated_digits_are_attacked() -> None:
    """Folded as if it had not been replaced, this one kept every image through ten steps of PGD."""
    test = carso.data.load("mnist", "test")[:40]
    classifier = copy.deepcopy(carso.load("mnist-thesis").classifier)
    negated(classifier)
    labels = classifier(test.images).argmax(1)
    found = pgd(classifier, test.images, labels, Budget("Linf", 0.2), steps=10, generator=torch.Generator())
    assert (classifier(found).argmax(1) == labels).float().mean() < 0.3


@pytest.mark.parametrize(("bright", "noticed"), [(0, True), (39, False)])
def test_a_form_is_tried_on_the_first_images(bright: int, noticed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit that the door states: a kind of layer that was patched for some other images alone passes."""
    classifier, images = defence().classifier, IMAGES * 0.3
    images[bright] = 1
    largest = [classifier.linear1(classifier.standardise(x[None]).flatten(1)).max() for x in images]
    limit = sorted(largest)[-2]
    assert largest[bright] > limit
    monkeypatch.setattr(nn.Mish, "forward", lambda _, t: torch.where(t > limit, -t, F.mish(t)))
    assert isinstance(faster(classifier, images), Folded) is not noticed


class Convolved(nn.Module):
    """A small network with a convolution and a habit."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.last = nn.Conv2d(1, 4, 3), nn.Linear(400, 5)
        self.scale = scale

    def before(self, images: Tensor) -> Tensor:
        return images

    def between(self, maps: Tensor) -> Tensor:
        return maps

    def forward(self, images: Tensor) -> Tensor:
        maps = self.between(self.convolution(self.before(images)))
        made: Tensor = self.last(maps.relu().flatten(1)) * self.scale
        return made


class Blind(Convolved):
    def before(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return (images * 8).round() / 8


class Noisy(Convolved):
    def before(self, images: Tensor) -> Tensor:
        return images + torch.rand(1, 1, 12, 12)


class Keeping(Convolved):
    def before(self, images: Tensor) -> Tensor:
        self.seen = images * 1
        return self.seen


class Clamped(torch.autograd.Function):
    """Pixels in [0, 1], whose gradient passes by."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor) -> Tensor:
        return pixels.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0]


class Handed(torch.autograd.Function):
    """The identity, of which a graph of the forward pass shows nothing."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor) -> Tensor:
        return pixels

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0]


class Passing(Convolved):
    """Clamps what it is given, but not what is grey."""

    def before(self, images: Tensor) -> Tensor:
        clamped: Tensor = Clamped.apply(2 * images - 0.5)  # type: ignore[no-untyped-call]
        return clamped


class Silenced(Convolved):
    def before(self, images: Tensor) -> Tensor:
        silent: Tensor = Scaling.apply(images, 0.0)  # type: ignore[no-untyped-call]
        return silent


class HandedOn(Convolved):
    def before(self, images: Tensor) -> Tensor:
        handed: Tensor = Handed.apply(images)  # type: ignore[no-untyped-call]
        return handed


class Gated(Convolved):
    """By a gate that is taken for a constant."""

    def before(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            gate = torch.sigmoid(3 * images)
        return images * gate


class Gate(nn.Module):
    """The same as a layer."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            gate = torch.sigmoid(3 * images)
        return images * gate


class Tap(nn.Module):
    """Remembers what it was given last."""

    def forward(self, images: Tensor) -> Tensor:
        self.kept = images
        return images


class Tapped(Convolved):
    def __init__(self) -> None:
        super().__init__()
        self.tap = Tap()

    def between(self, maps: Tensor) -> Tensor:
        return self.tap(maps) + 0.2 * self.tap.kept


class Drawing(Convolved):
    """Adds noise of a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(0)

    def before(self, images: Tensor) -> Tensor:
        return images + 0.05 * torch.from_numpy(self.generator.normal(size=(1, 12, 12)).astype("float32"))


class Counting(Convolved):
    """Grows brighter with every call."""

    calls = 0

    def before(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images * (1 + 0.05 * self.calls)


class Moving(Convolved):
    """Subtracts a running mean, which is assigned anew."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 12, 12))

    def before(self, images: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * images.detach().mean(0)
        return images - self.mean


class Optional(Convolved):
    """Takes a mask, if it is given one."""

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(images if mask is None else images * mask)


class Locked(Convolved):
    def __init__(self) -> None:
        super().__init__()
        self.lock = Lock()


def test_what_hides_its_images_from_gradients_is_not_seen_through_by_a_form() -> None:
    model, budget = Blind().eval().requires_grad_(False), Budget("Linf", 0.1)
    assert faster(model, IMAGES) is model
    with pytest.raises(NoGradientError):
        pgd(model, IMAGES, torch.zeros(40).long(), budget, steps=2)
    assert faster(Convolved().eval(), IMAGES) is not model


def slopes_of(model: Any, images: Tensor) -> Tensor:
    """The gradient of the first logit, in float32."""
    at = pullback(model, images, torch.float32)
    return at.gradient(F.one_hot(torch.zeros(len(images)).long(), at.logits(0 * images).shape[1]).float()).clone()


@pytest.mark.parametrize("build", [Passing, Silenced, Gated])
def test_a_form_has_the_gradient_that_the_network_hands_back(build: Callable[[], Convolved]) -> None:
    model, images = build().eval(), IMAGES.clone()
    images[:2] = 0.5 + 0.2 * (images[:2] - 0.5)
    form = faster(model, images)
    torch.testing.assert_close(slopes_of(form, images), slopes_of(model, images), rtol=1e-3, atol=1e-5)


def test_a_graph_without_somebodys_own_backward_pass_is_no_form() -> None:
    model = HandedOn().eval()
    assert faster(model, IMAGES) is model


def test_a_layer_that_hands_back_a_gradient_of_its_own_keeps_it_in_a_form() -> None:
    torch.manual_seed(0)
    for first in (Gate(), Contrast(0.2)):
        model = nn.Sequential(first, nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 5)).eval()
        form = faster(model, IMAGES)
        assert isinstance(form, Network)
        torch.testing.assert_close(slopes_of(form, IMAGES), slopes_of(model, IMAGES), rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_what_a_network_keeps_of_its_last_call_is_no_constant() -> None:
    model = Tapped().eval()
    for size in (2, 3, 1):
        model(IMAGES[:size])
        with torch.enable_grad():
            form = faster(model, IMAGES[:size])
        torch.testing.assert_close(form(IMAGES), model(IMAGES), atol=0.05, rtol=0)


@pytest.mark.parametrize("build", [Drawing, Counting, Moving])
def test_what_answers_otherwise_when_asked_again_has_no_form(build: Callable[[], Convolved]) -> None:
    model = build().eval()
    assert faster(model, IMAGES) is model


@pytest.mark.parametrize(("build", "found"), [(Convolved, True), (Counting, False), (Drawing, False)])
@torch.no_grad()
def test_nor_has_a_vote_of_its_classes(build: Callable[[], Convolved], found: bool) -> None:
    torch.manual_seed(0)
    purifier = ConvolutionalPurifier((1, 12, 12), [(10,)], latent=5, code=6).eval()
    vote = voting(build().eval(), purifier, torch.randn(9, 5), torch.rand(4, 6))
    assert (vote is not None) == found


def test_a_form_that_cannot_be_had_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    model = Optional().eval()
    faster(model, IMAGES)
    assert not torch.equal(pgd(model, IMAGES, torch.zeros(40).long(), Budget("Linf", 0.1), steps=2), IMAGES)
    assert capsys.readouterr().err == ""


def test_rounding_is_in_units_of_the_typical_logit() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, 3.0, 0.0, -torch.inf], [1.0, 2.0, -0.5, 1.0, 0.0, -torch.inf]])
    masked = logits.nan_to_num(neginf=-1e9)
    for theirs in (logits, masked):
        assert alike(theirs * (1 + 1e-5), theirs)
        assert alike(theirs + 1e-5, theirs)
        assert not alike(theirs + 0.1, theirs)
        assert not alike(theirs.roll(1, 0), theirs)
    assert not alike(logits[:, 4:].repeat(1, 2)[:, 1:] + 0.1, logits[:, 4:].repeat(1, 2)[:, 1:])
    assert alike(masked + 0.1, masked, typical=torch.max)
    assert not alike(logits, logits[:1])
    assert not alike(logits.nan_to_num(nan=0.0) * torch.nan, logits)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_noise_is_not_frozen_however_small_the_logits(scale: float) -> None:
    noisy, plain = Noisy(scale).eval(), Convolved(scale).eval()
    assert faster(noisy, IMAGES) is noisy
    assert faster(plain, IMAGES) is not plain


def test_what_cannot_be_copied_is_taken_as_it_is() -> None:
    keeping, locked = Keeping().eval(), Locked().eval()
    keeping(IMAGES.clone().requires_grad_())
    for model in (keeping, locked):
        assert faster(model, IMAGES) is model
        moved = pgd(model, IMAGES, torch.zeros(40).long(), Budget("Linf", 0.1), steps=2)
        assert not torch.equal(moved, IMAGES)
    with pytest.raises(ModelError, match="fast=True needs"):
        faster(locked, IMAGES, wanted=True)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the door does with images on a GPU, done with images on the processor."""
    monkeypatch.setattr(door, "_kind", lambda images: "cuda")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_on_a_gpu_a_network_with_convolutions_is_attacked_with_reduced_products() -> None:
    model, labels, budget = Convolved().eval(), torch.zeros(40).long(), Budget("Linf", 0.1)
    quick = faster(model, IMAGES)
    assert isinstance(quick, Reduced)
    torch.testing.assert_close(quick(IMAGES), model(IMAGES), atol=0.05, rtol=0)
    with full_precision():
        assert torch.equal(quick(IMAGES), model(IMAGES))
        found, plain = (pgd(model, IMAGES, labels, budget, random_start=False, fast=fast) for fast in (None, False))
    assert torch.equal(found, plain)
    exact = [pullback(each, IMAGES, torch.float32).logits(torch.zeros_like(IMAGES)) for each in (quick, model)]
    assert torch.equal(*exact)
    assert faster(model, IMAGES, wanted=False) is model


@pytest.mark.usefixtures("as_on_a_gpu")
def test_on_a_gpu_what_does_not_convolve_or_has_no_gradient_is_taken_as_it_is() -> None:
    hooked = Convolved().eval()
    hooked.last.register_forward_hook(lambda *_: None)
    for model in (defence().classifier, Blind().eval(), Convolved(), hooked, Convolved().eval().forward):
        assert faster(model, IMAGES) is model


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_gradient_that_rounding_turns_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Convolved().eval()
    monkeypatch.setattr(products, "reduced", lambda exact: lambda images: -exact(images))
    assert faster(model, IMAGES) is model


@pytest.mark.usefixtures("as_on_a_gpu")
def test_nothing_is_compared_while_a_graph_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    model = Convolved().eval()
    asked: list[Tensor] = []
    monkeypatch.setattr(Convolved, "forward", lambda self, images: asked.append(images) or self.last.bias)
    assert faster(model, IMAGES) is model
    assert asked == []


def test_other_devices_than_gpus_get_the_model_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_kind", lambda images: "mps")
    model = Convolved().eval()
    assert faster(model, IMAGES) is model


def test_memory_that_runs_out_is_not_taken_for_a_network_without_a_form() -> None:
    assert attempted(lambda: torch.empty(2).reshape(3)) is None
    with pytest.raises(RuntimeError, match="allocate memory"):
        attempted(lambda: torch.empty(10**15))
