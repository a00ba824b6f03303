import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import carso
from carso import vote
from carso.correction import CorrectivePurifier
from carso.errors import CarsoError, DataError, ModelError, NoGradientError
from carso.nn import MLP
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.recall import classify
from carso.representation import Representation


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def defence() -> carso.CARSO:
    torch.manual_seed(0)
    classifier = MLP((1, 8, 8), (12, 7))
    for _ in range(30):
        classifier(torch.rand(32, 1, 8, 8))
    with torch.no_grad():
        classifier.logits.weight.mul_(3)
    purifier = Purifier((1, 8, 8), 29, latent=6)
    with torch.no_grad():
        purifier.representation_encoder[-2].weight.mul_(20)
        purifier.decoder[0].weight.mul_(10)
        purifier.decoder[-2].weight.mul_(15)
    return carso.CARSO(classifier, purifier, samples=120).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(23, 1, 8, 8, generator=seeded())


def test_the_answer_is_the_mode_of_the_classes_of_recalled_images(defence: carso.CARSO, images: torch.Tensor) -> None:
    latents = defence.latents(generator=seeded())
    with torch.no_grad():
        candidates = defence.recall(images, latents=latents)
        classes = classify(defence.classifier, candidates).argmax(2)
    assert candidates.shape == (23, 120, 1, 8, 8)
    expected = torch.mode(classes, dim=1).values
    assert torch.equal(defence.poll(images, stop="never", generator=seeded()).winners, expected)
    assert len(expected.unique()) > 1


def test_votes_sum_to_the_samples(defence: carso.CARSO, images: torch.Tensor) -> None:
    assert (defence.votes(images).sum(1) == 120).all()


def test_the_exact_stop_gives_the_full_answer(defence: carso.CARSO, images: torch.Tensor) -> None:
    full = defence.poll(images, stop="never", generator=seeded())
    early = defence.poll(images, stop="exact", generator=seeded())
    assert torch.equal(full.winners, early.winners)
    assert (early.samples < 120).any()


def test_a_seed_gives_one_answer_whatever_the_batch_and_the_order(defence: carso.CARSO, images: torch.Tensor) -> None:
    whole = defence(images, seeded(5))
    parts = torch.cat([defence(some, seeded(5)) for some in images.split(4)])
    order = torch.randperm(len(images), generator=seeded())
    assert torch.equal(whole, parts)
    assert torch.equal(whole[order], defence(images[order], seeded(5)))


def test_latents_are_fresh_each_call(defence: carso.CARSO, images: torch.Tensor) -> None:
    assert not torch.equal(defence.recall(images[:2], samples=3), defence.recall(images[:2], samples=3))
    assert not torch.equal(defence.surrogate(images[:2], samples=3), defence.surrogate(images[:2], samples=3))


def test_recall_and_surrogate_are_differentiable(defence: carso.CARSO, images: torch.Tensor) -> None:
    x = images[:3].clone().requires_grad_()
    assert defence.surrogate(x, samples=4).shape == (3, 10)
    (gradient,) = torch.autograd.grad(defence.surrogate(x, samples=4)[:, 0].sum(), x)
    assert gradient.abs().sum() > 0
    (gradient,) = torch.autograd.grad(defence.recall(x, samples=4).sum(), x)
    assert gradient.abs().sum() > 0


def test_the_surrogate_is_the_mean_log_probability(defence: carso.CARSO, images: torch.Tensor) -> None:
    latents = defence.latents(5, seeded())
    logits = defence.logits(images, latents=latents)
    torch.testing.assert_close(defence.surrogate(images, latents=latents), logits.log_softmax(2).mean(1))


def test_the_vote_has_no_gradient(defence: carso.CARSO, images: torch.Tensor) -> None:
    scores = defence(images.clone().requires_grad_())
    with pytest.raises(NoGradientError, match=r"defence\.differentiable\(\)"):
        scores.sum().backward()
    assert not defence(images).requires_grad


CLOSED_FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean-logit": lambda z: z.mean(1),
    "mean-probability": lambda z: (z.exp() / z.exp().sum(2, keepdim=True)).mean(1),
    "exponential": lambda z: z.exp().sum(1).softmax(1),
    "peel": lambda z: z.exp().sum(1).softmax(1).logit().clamp(-10, 10),
}


@pytest.mark.parametrize("aggregation", CLOSED_FORMS)
def test_another_aggregation_scores_all_candidates(
    defence: carso.CARSO, images: Tensor, aggregation: vote.Aggregation
) -> None:
    """None stops early, and each predicts its best class."""
    subject = carso.CARSO(defence.classifier, defence.purifier, samples=11, aggregation=aggregation)
    logits = defence.logits(images, latents=defence.latents(11, seeded())).detach().double()
    scores = subject(images, seeded()).double().clamp(-10, 10)
    torch.testing.assert_close(scores, CLOSED_FORMS[aggregation](logits), rtol=1e-3, atol=1e-3)
    assert torch.equal(subject.predict(images, seeded()), subject(images, seeded()).argmax(1))
    with pytest.raises(NoGradientError):
        subject(images.clone().requires_grad_()).sum().backward()


@pytest.mark.parametrize("aggregation", sorted(vote.AGGREGATES))
def test_the_surrogate_is_taken_before_the_aggregation(
    defence: carso.CARSO, images: Tensor, aggregation: vote.Aggregation
) -> None:
    subject = carso.CARSO(defence.classifier, defence.purifier, samples=11, aggregation=aggregation)
    latents = defence.latents(5, seeded())
    expected = defence.surrogate(images, latents=latents)
    assert torch.equal(subject.surrogate(images, latents=latents), expected)
    own = subject.aggregated(images.clone().requires_grad_(), latents=latents)
    assert own.requires_grad == (aggregation != "mode")
    centred = defence.logits(images, latents=latents).mean(1) - expected
    torch.testing.assert_close(centred, centred[:, :1].expand_as(centred))


def test_images_of_another_aggregation_do_not_depend_on_the_batch(
    defence: carso.CARSO, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = carso.CARSO(defence.classifier, defence.purifier, samples=11, aggregation="mean-logit")
    whole = subject(images, seeded())
    monkeypatch.setattr("carso.recall.PIXELS", 1)
    torch.testing.assert_close(subject(images, seeded()), whole)


def test_one_sample_votes_for_its_class(defence: carso.CARSO, images: torch.Tensor) -> None:
    latents = defence.latents(1, seeded())
    single = defence.poll(images, samples=1, generator=seeded())
    assert torch.equal(single.winners, defence.logits(images, latents=latents).argmax(2)[:, 0])


def test_a_classifier_in_train_mode_stays_there() -> None:
    classifier = MLP((1, 8, 8), (12, 7))
    wrapped = carso.CARSO(classifier, Purifier((1, 8, 8), 29, latent=6), samples=10)
    classifier.train()
    before = classifier.norm1.running_mean.clone()
    wrapped.predict(torch.rand(4, 1, 8, 8))
    wrapped.surrogate(torch.rand(4, 1, 8, 8))
    assert classifier.training
    assert torch.equal(before, classifier.norm1.running_mean)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.rand(2, 1, 7, 8), "shape"),
        (torch.rand(2, 1, 8, 8) * 255, r"\[0, 1\]"),
        (torch.full((2, 1, 8, 8), float("nan")), "NaN"),
    ],
)
def test_bad_images_are_named(defence: carso.CARSO, bad: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        defence.predict(bad)
    with pytest.raises(DataError, match=message):
        defence.surrogate(bad)


def test_other_layers_than_the_purifier_was_made_for_are_refused() -> None:
    with pytest.raises(ModelError, match="made for 28 neurons"):
        carso.CARSO(MLP((1, 8, 8), (12, 7)), Purifier((1, 8, 8), 28))


def test_a_classifier_of_probabilities_is_refused() -> None:
    with pytest.raises(ModelError, match="probabilities"):
        carso.CARSO(nn.Sequential(MLP((1, 8, 8)), nn.Softmax(1)), Purifier((1, 8, 8), 290))


def fresh(classifier: nn.Module | None = None) -> carso.CARSO:
    torch.manual_seed(1)
    classifier = MLP((1, 8, 8), (12, 7)) if classifier is None else classifier
    return carso.CARSO(classifier, Purifier((1, 8, 8), 29, latent=6), samples=50)


USES: dict[str, Callable[[carso.CARSO, Tensor], Any]] = {
    "predict": lambda d, x: d.predict(x, seeded()),
    "votes": lambda d, x: d.votes(x, seeded()),
    "shares": lambda d, x: d(x, seeded()),
    "samples": lambda d, x: d.poll(x, stop="exact", generator=seeded()).samples,
    "recall": lambda d, x: d.recall(x, 3, generator=seeded()),
    "logits": lambda d, x: d.logits(x, 3, generator=seeded()),
    "surrogate": lambda d, x: d.surrogate(x, 3, generator=seeded()),
    "codes": lambda d, x: d.codes(x),
    "mean": lambda d, x: carso.CARSO(d.classifier, d.purifier, samples=5, aggregation="mean-probability")(x, seeded()),
}


class InPlace(nn.Module):
    """The classifier, which normalises its input where it lies."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images.mul_(0.5).add_(0.25))
        return logits


class Aside(InPlace):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images.mul(0.5).add(0.25))
        return logits


@pytest.mark.parametrize("use", USES)
def test_a_classifier_that_writes_into_its_input_harms_nobody(use: str, images: torch.Tensor) -> None:
    classifier, before = MLP((1, 8, 8), (12, 7)), images.clone()
    found, expected = (USES[use](fresh(kind(classifier)), images) for kind in (InPlace, Aside))
    assert torch.equal(found, expected)
    assert torch.equal(images, before)


@pytest.mark.parametrize("use", USES)
def test_modules_keep_the_mode_they_are_in(use: str, images: torch.Tensor) -> None:
    classifier = MLP((1, 8, 8), (12, 7)).train()
    classifier.dropout2.eval()
    whole = fresh(classifier)
    whole.purifier.train()
    modes = [module.training for module in whole.modules()]
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    first, second = USES[use](whole, images), USES[use](whole, images)
    assert torch.equal(first, second)
    assert [module.training for module in whole.modules()] == modes
    assert classifier.dropout1.training
    assert not classifier.dropout2.training
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("use", USES)
def test_an_empty_batch_has_empty_answers(use: str, images: torch.Tensor) -> None:
    whole = fresh()
    found, expected = USES[use](whole, images[:0]), USES[use](whole, images[:2])
    assert found.shape == (0, *expected.shape[1:])
    assert found.dtype == expected.dtype


@pytest.mark.parametrize("use", USES)
def test_images_of_double_precision_are_answered_in_single(use: str, images: torch.Tensor) -> None:
    whole = fresh()
    found, expected = USES[use](whole, images.double()), USES[use](whole, images)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("use", USES)
def test_a_defence_in_another_dtype_takes_and_gives_float32(use: str, dtype: torch.dtype, images: Tensor) -> None:
    whole = fresh()
    expected = USES[use](whole, images)
    found = USES[use](whole.to(dtype), images)
    assert found.dtype == expected.dtype
    if use in ("recall", "logits", "surrogate", "codes", "mean"):
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0.05)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("surroundings", ["float64", "another device"])
def test_default_dtype_and_device_change_nothing(use: str, surroundings: str, images: Tensor) -> None:
    whole = fresh()
    expected = USES[use](whole, images)
    with torch.device("meta" if surroundings == "another device" else "cpu"):
        torch.set_default_dtype(torch.float64 if surroundings == "float64" else torch.float32)
        try:
            found = USES[use](whole, images)
        finally:
            torch.set_default_dtype(torch.float32)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def test_another_classifier_takes_its_place_everywhere(images: torch.Tensor) -> None:
    torch.manual_seed(2)
    other = MLP((1, 8, 8), (12, 7))
    whole, expected = fresh(), fresh(other)
    expected.purifier.load_state_dict(whole.purifier.state_dict())
    before = whole.codes(images)
    whole.classifier = other
    assert whole.representation.classifier is other
    assert not torch.equal(whole.codes(images), before)
    assert torch.equal(whole.votes(images, seeded()), expected.votes(images, seeded()))


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("classifier", MLP((1, 8, 8), (12, 6)), "made for 29 neurons"),
        ("classifier", MLP((1, 9, 9), (12, 7)), "cannot run"),
        ("purifier", Purifier((1, 8, 8), 30), "made for 30 neurons"),
    ],
)
def test_a_part_that_does_not_fit_is_refused_and_nothing_changes(
    name: str, other: nn.Module, message: str, images: torch.Tensor
) -> None:
    whole = fresh()
    before = whole.votes(images, seeded())
    with pytest.raises(ModelError, match=message):
        setattr(whole, name, other)
    assert torch.equal(whole.votes(images, seeded()), before)


def test_other_classes_are_known_after_a_replacement(images: torch.Tensor) -> None:
    whole = fresh()
    whole.classifier = MLP((1, 8, 8), (12, 13), classes=4)
    assert whole.classes == 4
    assert whole.votes(images).shape == (23, 4)


def test_a_copy_is_a_defence_of_its_own(images: torch.Tensor) -> None:
    whole = fresh()
    twin = copy.deepcopy(whole)
    assert twin.representation.classifier is twin.classifier
    assert torch.equal(twin.votes(images, seeded()), whole.votes(images, seeded()))


def test_a_compiled_classifier_votes_as_the_plain_one(images: torch.Tensor) -> None:
    classifier = MLP((1, 8, 8), (12, 7)).eval()
    whole = fresh(torch.compile(classifier, backend="eager"))
    assert torch.equal(whole.votes(images, seeded()), fresh(classifier).votes(images, seeded()))
    assert torch.equal(whole.votes(images, seeded()), fresh(classifier).votes(images, seeded()))


@pytest.mark.parametrize("use", ["forward", "surrogate", "recall"])
def test_a_defence_can_be_traced_by_torch_export(use: str, images: torch.Tensor) -> None:
    class Use(nn.Module):
        def __init__(self, whole: carso.CARSO) -> None:
            super().__init__()
            self.whole = whole

        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = getattr(self.whole, use)(images)
            return found

    whole = fresh()
    traced = torch.export.export(Use(whole), (images[:3],)).module()
    torch.manual_seed(0)
    found = traced(images[:3])
    torch.manual_seed(0)
    expected = whole.poll(images[:3], stop="never").shares if use == "forward" else getattr(whole, use)(images[:3])
    torch.testing.assert_close(found, expected)


class TestFixed:
    def test_it_votes_by_the_latents_of_its_seed_whoever_asks(self, defence: carso.CARSO, images: Tensor) -> None:
        fixed = defence.fixed(7)
        assert torch.equal(fixed(images), defence(images, seeded(7)))
        assert torch.equal(fixed(images), fixed(images, seeded(8)))
        assert torch.equal(fixed.votes(images), defence.votes(images, seeded(7)))

    def test_fewer_latents_are_the_first_of_all(self, defence: carso.CARSO) -> None:
        fixed = defence.fixed(7)
        for samples in (1, 3, 50, 120):
            assert torch.equal(fixed.latents(samples), fixed.latents()[:samples])
        assert fixed.latents(130).shape == (130, 6)

    @pytest.mark.parametrize("samples", [1, 5, 7, 10])
    def test_more_latents_begin_with_its_own(self, defence: carso.CARSO, samples: int) -> None:
        few = carso.CARSO(defence.classifier, defence.purifier, defence.representation.layers, samples=samples)
        fixed = few.fixed(7)
        for more in (samples + 1, 64, 200):
            assert torch.equal(fixed.latents(more)[:samples], fixed.latents())

    def test_it_says_so_and_the_defence_stays_random(self, defence: carso.CARSO, images: Tensor) -> None:
        fixed = defence.fixed(7)
        assert fixed.fixed_by == 7
        assert defence.fixed_by is None
        assert "latents fixed by seed 7" in repr(fixed)
        assert "fixed" not in repr(defence)
        assert fixed.classifier is defence.classifier
        assert not torch.equal(defence.recall(images), defence.recall(images))

    def test_it_keeps_how_the_defence_votes(self, defence: carso.CARSO) -> None:
        other = carso.CARSO(
            defence.classifier, defence.purifier, samples=9, aggregation="peel", stop="never", error=0.01
        )
        other.class_names = tuple("abcdefghij")
        fixed = other.fixed()
        for name in ("samples", "aggregation", "stop", "error", "class_names", "calibration"):
            assert getattr(fixed, name) == getattr(other, name)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "median"}, "aggregation must be one of mode, .*, not 'median'"),
        ({"stop": "often"}, "stop must be one of never, exact, confident, not 'often'"),
        ({"samples": 8.5}, "samples must be a whole number, at least 1, not 8.5"),
        ({"samples": 0}, "samples must be a whole number"),
    ],
)
def test_how_it_votes_is_checked_when_it_is_made(defence: carso.CARSO, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        carso.CARSO(defence.classifier, defence.purifier, **options)


@pytest.mark.whole
@pytest.mark.parametrize(("name", "value"), [("aggregation", "median"), ("stop", "often"), ("samples", 0)])
def test_how_it_votes_is_checked_when_it_is_changed(defence: carso.CARSO, name: str, value: Any) -> None:
    own = copy.copy(defence)
    with pytest.raises(ValueError, match=f"{name} must be "):
        setattr(own, name, value)
    assert getattr(own, name) == getattr(defence, name)


@pytest.mark.whole
@pytest.mark.parametrize("call", ["poll", "elect"])
def test_an_unknown_stop_is_refused(defence: carso.CARSO, images: Tensor, call: str) -> None:
    with pytest.raises(ValueError, match="stop must be one of never, exact, confident, not 'often'"):
        getattr(defence, call)(images, stop="often")


@pytest.mark.whole
@pytest.mark.parametrize("latents", [torch.rand(0, 6), torch.rand(4, 5), torch.rand(6), torch.ones(4, 6).long(), [0.0]])
@pytest.mark.parametrize("call", ["recall", "surrogate"])
def test_latents_are_of_its_dimension_and_one_at_least(
    defence: carso.CARSO, images: Tensor, call: str, latents: Any
) -> None:
    with pytest.raises(ValueError, match=r"latents must be floats of shape \(K, 6\), K at least 1, not"):
        getattr(defence, call)(images, latents=latents)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("part", "other", "message"),
    [
        ("classifier", lambda x: x, "the classifier must be an nn.Module, whose layers are read, not a function"),
        ("classifier", None, "the classifier must be an nn.Module, .* not a NoneType"),
        ("purifier", None, "the purifier must be a carso.purifier.Purifier, not a NoneType"),
        ("purifier", nn.Identity(), "the purifier must be a .*, not a Identity"),
    ],
)
def test_what_is_no_part_of_a_defence_is_refused(defence: carso.CARSO, part: str, other: Any, message: str) -> None:
    parts = {"classifier": defence.classifier, "purifier": defence.purifier, part: other}
    with pytest.raises(ModelError, match=message):
        carso.CARSO(**parts)
    with pytest.raises(ModelError, match=message):
        setattr(defence, part, other)


def test_a_vote_has_a_sample(defence: carso.CARSO, images: Tensor) -> None:
    with pytest.raises(ValueError, match="samples must be a whole number, at least 1, not 0"):
        defence.poll(images, 0)


class TestDetectionOfOddInput:
    @pytest.fixture
    def calibrated(self, defence: carso.CARSO, images: Tensor) -> carso.CARSO:
        own = copy.copy(defence)
        own.calibrate(images)
        return own

    def test_no_images_are_all_answered(self, calibrated: carso.CARSO, images: Tensor) -> None:
        found = calibrated.detect(images[:0], 0.1)
        assert (found.classes.shape, found.accepted.shape) == ((0,), (0,))

    @pytest.mark.whole
    @pytest.mark.parametrize("classes", [[0, 1], [0, 1, 10], [0, 1, -1]])
    def test_classes_are_one_of_its_own_for_each(
        self, calibrated: carso.CARSO, images: Tensor, classes: list[int]
    ) -> None:
        with pytest.raises(ValueError, match="one of 0 to 9 for each of the 3 images"):
            calibrated.detect(images[:3], 0.1, torch.tensor(classes))
        with pytest.raises(ValueError, match="one of 0 to 9 for each of the 3 images"):
            calibrated.agreement(images[:3], torch.tensor(classes))

    @pytest.mark.whole
    def test_the_agreement_takes_a_list_of_classes(self, defence: carso.CARSO, images: Tensor) -> None:
        fixed = defence.fixed()
        assert torch.equal(fixed.agreement(images[:3], [0, 1, 2]), fixed.agreement(images[:3], torch.arange(3)))

    def test_an_endless_rate_is_too_high(self, calibrated: carso.CARSO, images: Tensor) -> None:
        with pytest.raises(CarsoError, match=r"at most 0\.2, not inf"):
            calibrated.detect(images, float("inf"))


class TestShapesOfLayers:
    @staticmethod
    def network() -> nn.Sequential:
        torch.manual_seed(0)
        shared = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        return nn.Sequential(*shared, nn.Conv2d(4, 16, 3, 2, 1), nn.Flatten(), nn.Linear(256, 5)).eval()

    def test_layers_in_another_order_are_refused(self) -> None:
        network, layers = self.network(), ("1", "3", "output")
        shapes = [s for each in Representation(network, layers).shapes(torch.rand(1, 3, 16, 16)).values() for s in each]
        purifier = ConvolutionalPurifier((3, 16, 16), shapes, latent=4, code=6)
        carso.CARSO(network, purifier, layers, samples=2)
        with pytest.raises(ModelError, match=r"layers of the shapes .* in their order"):
            carso.CARSO(network, purifier, ("3", "1", "output"), samples=2)

    def test_what_corrects_begins_with_the_image_and_nothing_like_it(self) -> None:
        network = self.network()
        purifier = CorrectivePurifier((3, 16, 16), [(3, 16, 16), (3, 16, 16), (5,)], width=8, channels=2)
        carso.CARSO(network, purifier, ("input", "0", "output"), samples=2)
        with pytest.raises(ModelError, match="layer '0' has the shape of the image"):
            carso.CARSO(network, purifier, ("0", "input", "output"), samples=2)


@pytest.mark.whole
@pytest.mark.parametrize("samples", [0, -1, 2.0, True])
@pytest.mark.parametrize("call", ["recall", "logits", "surrogate", "aggregated", "poll"])
def test_candidates_are_one_at_least(defence: carso.CARSO, images: torch.Tensor, call: str, samples: Any) -> None:
    with pytest.raises(ValueError, match=f"samples must be a whole number, at least 1, not {samples}"):
        getattr(defence, call)(images, samples=samples)
