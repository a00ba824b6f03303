from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tests.rivals.conftest import CLASSES, CPU, SHAPE, bars, dataset

from carso.errors import RecipeError
from carso.nn import MLP
from carso.rivals.kinds import KINDS, RivalSpec, alone, build, stages, trains
from carso.training.loop import fit
from carso.training.recipe import ClassifierTraining

SMALL: dict[str, dict[str, Any]] = {
    "classifier": {},
    "parseval": {},
    "winners": {"gamma": 0.2},
    "smoothing": {"sigma": 0.2, "samples": 5},
    "augmentation": {"samples": 3, "shift": 1},
    "denoising": {"hidden": [12], "code": 6},
    "puvae": {"latent": 3, "hidden": [12]},
    "defense-gan": {"latent": 3, "hidden": [8, 12], "steps": 2, "restarts": 2},
    "diffusion": {"width": 8, "levels": 1, "horizon": 20, "t": 0.2, "steps": 2},
}
ONE = ClassifierTraining(epochs=1, batch=64, rate=0.01)


def spec(kind: str, **options: Any) -> RivalSpec:
    return RivalSpec.model_validate_json(json.dumps({"kind": kind, "options": options or SMALL[kind]}))


def network() -> MLP:
    return MLP(SHAPE, (16,), CLASSES, dropout=0.0)


def trainings(kind: str) -> tuple[ClassifierTraining, ...]:
    return {"augmentation": (), "defense-gan": (ONE, ONE)}.get(kind, (ONE,))


def test_every_kind_is_tried_here() -> None:
    assert SMALL.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_training_moves_the_rival_and_its_classifier_only_where_that_is_what_is_trained(kind: str) -> None:
    classifier = network()
    rival = build(spec(kind), classifier, SHAPE, CLASSES)
    images, _ = bars(4, 0)
    assert rival.eval()(images).shape == (4, CLASSES)
    before = {name: value.clone() for name, value in rival.state_dict().items()}
    for stage in stages(spec(kind), rival, trainings(kind), (dataset(), dataset(64, 3)), CPU):
        fit(stage, 0, "f")
    moved = {name for name, value in rival.state_dict().items() if not torch.equal(value, before[name])}
    of_n = {name for name in moved if kind in ("classifier", "parseval", "winners") or name.startswith("classifier.")}
    assert bool(moved) == (kind != "augmentation")
    assert bool(of_n) == trains(spec(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_alone_where_no_n_stands_behind_it(kind: str) -> None:
    assert alone(spec(kind)) != hasattr(build(spec(kind), network(), SHAPE, CLASSES), "classifier")


def test_every_option_of_a_kind_is_one_of_its_parts() -> None:
    """What is declared and not taken is a TypeError of the part."""
    numbers: dict[str, Any] = {"gamma": 0.2, "sigma": 0.2, "hidden": [8], "flip": True, "rate": 0.1, "t": 0.5}
    small = {"width": 8, "horizon": 20, "levels": 1}
    for kind, known in KINDS.items():
        if known.options:
            options = {name: numbers.get(name, small.get(name, 2)) for name in known.options}
            build(spec(kind, **options), network(), SHAPE, CLASSES)


def test_options_reach_the_rival() -> None:
    rival: Any = build(spec("defense-gan"), network(), SHAPE, CLASSES)
    assert (rival.steps, rival.restarts, rival.generator.latent) == (2, 2, 3)
    assert build(spec("diffusion"), network(), SHAPE, CLASSES).times == [4, 2, 0]
    assert build(spec("augmentation"), network(), SHAPE, CLASSES).shift == 1


def test_what_is_no_rival_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match=r"no rival 'magnet'; there are: classifier, parseval"):
        build(spec("magnet", x=1), network(), SHAPE, CLASSES)
    with pytest.raises(RecipeError, match=r"rival winners: no option 'gama'; there are: gamma"):
        build(spec("winners", gama=0.2), network(), SHAPE, CLASSES)
    with pytest.raises(RecipeError, match=r"rival winners: no option 'sigma'"):
        build(spec("winners", gamma=1, sigma=[1]), network(), SHAPE, CLASSES)
    with pytest.raises(RecipeError, match=r"rival parseval: no option 'beta'; there are: none"):
        build(spec("parseval", beta=1), network(), SHAPE, CLASSES)
    with pytest.raises(RecipeError, match=r"rival winners: gamma.*not 1.5"):
        build(spec("winners", gamma=1.5), network(), SHAPE, CLASSES)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("augmentation", {"samples": 2.5}, "samples must be a whole number, not 2.5"),
        ("augmentation", {"shift": [1, 2]}, r"shift must be a whole number, not \(1, 2\)"),
        ("augmentation", {"flip": 1}, "flip must be true or false, not 1"),
        ("smoothing", {"sigma": [1, 2]}, r"sigma must be a number, not \(1, 2\)"),
        ("smoothing", {"sigma": 0.0}, "sigma must be positive and finite, not 0.0"),
        ("smoothing", {"samples": 0}, "samples must be at least 1, not 0"),
        ("augmentation", {"shift": 8}, "shift must be below the 8 pixels of an image's side, not 8"),
        ("augmentation", {"shift": 65536}, "shift must be below the 8 pixels of an image's side, not 65536"),
        ("denoising", {"code": 0}, "code must be at least 1, not 0"),
        ("puvae", {"latent": 0}, "latent must be at least 1, not 0"),
        ("defense-gan", {"latent": 0}, "latent must be at least 1, not 0"),
        ("defense-gan", {"restarts": 2.0}, "restarts must be a whole number, not 2.0"),
        ("defense-gan", {"steps": 0}, "steps must be at least 1, not 0"),
        ("defense-gan", {"rate": 0.0}, "rate must be positive and finite, not 0.0"),
        ("diffusion", {"width": 9}, "width must be even"),
        ("puvae", {"hidden": 12}, "hidden must be a list of sizes, not 12"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_trained(
    kind: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=f"rival {kind}: {message}"):
        build(spec(kind, **options), network(), SHAPE, CLASSES)


def test_zero_is_a_whole_number_and_a_switch_none() -> None:
    rival = build(spec("augmentation", shift=0, flip=True), network(), SHAPE, CLASSES)
    assert (rival.shift, rival.flip) == (0, True)
    assert rival(torch.rand(2, *SHAPE)).shape == (2, CLASSES)


@pytest.mark.parametrize(("kind", "count"), [("classifier", 2), ("defense-gan", 1), ("augmentation", 1)])
def test_another_number_of_trainings_is_refused(kind: str, count: int) -> None:
    rival = build(spec(kind), network(), SHAPE, CLASSES)
    with pytest.raises(RecipeError, match=f"rival {kind} has another number of trainings than {count}"):
        stages(spec(kind), rival, (ONE,) * count, (dataset(), dataset(64, 3)), CPU)
