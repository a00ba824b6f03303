from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from carso.commands import cli
from carso.errors import CarsoError
from carso.evaluation.protocol import END_TO_END, SWEEP, TABLE, curve
from carso.evaluation.radii import check_radii, is_thesis, norm_of, protocol_of, radii_of
from carso.storage import weights
from carso.storage.headers import Origin
from carso.types import Norm

EPS = 8 / 255


def origin(data: str | None = "photographs", **sections: list[dict[str, Any]]) -> Origin:
    return Origin.model_validate({"data": data} | {k: {"attacks": v} for k, v in sections.items()}, strict=False)


COLOUR = origin(
    adversarial=[{"attack": "n-fgsm", "eps": EPS}],
    purification=[{"attack": "pgd", "eps": EPS}, {"attack": "noise", "eps": 0.5}],
    hardening=[{"attack": "annealed", "eps": 4 / 255, "directed_at": "defence"}],
)


def test_a_radius_is_at_most_the_way_from_black_to_white() -> None:
    limits: dict[Norm, float] = {"Linf": 1.0, "L2": 4.0, "L1": 16.0}
    for norm, most in limits.items():
        check_radii((0.1, most), norm, (1, 4, 4))
        for wrong in (1.01 * most, 0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(CarsoError, match=rf"eps must lie in \(0, {most:g}\] for {norm}, not"):
                check_radii((0.1, wrong), norm, (1, 4, 4))
    check_radii((300.0,), "L2")


def test_an_evaluation_refuses_a_radius_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.data.load", lambda *_, **__: pytest.fail("images were read"))
    told = ("evaluate", "mnist/classifier", "--eps", "8", "--out", str(tmp_path))
    found = CliRunner().invoke(cli.app, told)
    assert isinstance(found.exception, CarsoError), found.output
    assert str(found.exception).endswith("; did you mean 8/255?")


def test_an_evaluation_refuses_a_radius_beyond_its_images(tmp_path: Path) -> None:
    told = ("evaluate", "mnist/classifier", "--norm", "L2", "--eps", "29", "--images", "2", "--out", str(tmp_path))
    found = CliRunner().invoke(cli.app, told)
    assert isinstance(found.exception, CarsoError), found.output
    assert "eps must lie in (0, 28] for L2, not 29" in str(found.exception)


@pytest.mark.parametrize("name", [name for name in weights.shipped() if name.startswith("mnist")])
def test_what_ships_for_digits_is_evaluated_by_the_thesis(name: str) -> None:
    protocol = protocol_of(weights.origin(name), "mnist")
    rows = tuple(
        replace(row, foreseen=own.foreseen) for row, own in zip(TABLE + END_TO_END, protocol.rows, strict=True)
    )
    assert (protocol.rows, protocol.curve_rows, protocol.sweep_rows) == (rows, curve(), SWEEP)
    assert radii_of(weights.origin(name), "mnist") == (0.15, 0.3)


@pytest.mark.parametrize(
    ("name", "foreseen"),
    [
        ("mnist-thesis", {("fgsm", 0.15), ("fgsm", 0.3), ("pgd", 0.15), ("pgd", 0.3)}),
        ("mnist-strong-contrast", {("pgd", 0.3), ("pgd-eot", 0.3)}),
    ],
)
def test_foreseen_is_what_its_own_trainings_used(name: str, foreseen: set[tuple[str, float]]) -> None:
    rows = protocol_of(weights.origin(name), "mnist").rows
    assert {(row.attack, row.eps) for row in rows if row.foreseen and row.norm} == foreseen


@pytest.mark.parametrize(
    ("of", "data", "expected"),
    [
        (Origin(), "mnist", True),
        (Origin(), "photographs", False),
        (origin("mnist", adversarial=[{"attack": "pgd", "eps": 0.3}]), "mnist", True),
        (origin("mnist", adversarial=[{"attack": "pgd", "eps": 0.3}]), "fashion-mnist", False),
        (origin("mnist", adversarial=[{"attack": "pgd", "eps": 0.1}]), "mnist", False),
        (origin("mnist", adversarial=[{"attack": "pgd", "eps": 0.3, "norm": "L2"}]), "mnist", False),
        (origin("fashion-mnist"), "mnist", False),
    ],
)
def test_whose_work_it_is(of: Origin, data: str, expected: bool) -> None:
    assert is_thesis(of, data) == expected


def test_the_radii_are_those_of_the_training() -> None:
    assert radii_of(COLOUR, "photographs") == (4 / 255, EPS)
    alone = origin(adversarial=[{"attack": "pgd", "eps": 1.0, "norm": "L2"}])
    assert (radii_of(alone, "photographs"), norm_of(alone)) == ((0.5, 1.0), "L2")


def test_radii_beyond_what_the_classifier_was_trained_for_are_no_defaults() -> None:
    beyond = origin(
        adversarial=[{"attack": "n-fgsm", "eps": EPS}], hardening=[{"attack": "pgd", "eps": 0.1, "norm": "Linf"}]
    )
    assert radii_of(beyond, "photographs") == (EPS / 2, EPS)
    assert ("pgd", 0.1) in {
        (row.attack, row.eps) for row in protocol_of(beyond, "photographs", (0.1,)).rows if row.foreseen
    }
    of_the_purifier = origin(purification=[{"attack": "pgd", "eps": 0.1}], hardening=[{"attack": "pgd", "eps": 0.2}])
    assert radii_of(of_the_purifier, "photographs") == (0.1, 0.2)


@pytest.mark.parametrize(
    ("name", "data", "radii"), [("cifar10", "cifar10", (4 / 255, EPS)), ("fashion", "fashion-mnist", (0.05, 0.1))]
)
def test_what_ships_for_clothes_and_photographs_is_attacked_at_the_radii_it_is_measured_at(
    name: str, data: str, radii: tuple[float, float]
) -> None:
    assert radii_of(weights.origin(name), data) == radii


def test_radii_of_another_norm_than_the_trainings_are_to_be_named() -> None:
    both = origin("mnist", adversarial=[{"attack": "pgd", "eps": 0.3}, {"attack": "pgd", "eps": 1.5, "norm": "L2"}])
    assert radii_of(both, "mnist", "L2") == (0.75, 1.5)
    with pytest.raises(CarsoError, match="--norm Linf: nothing was trained for it"):
        radii_of(origin(adversarial=[{"attack": "pgd", "eps": 1.0, "norm": "L2"}]), "photographs", "Linf")
    for get in (radii_of, lambda *given: protocol_of(*given[:2], norm=given[2])):
        with pytest.raises(CarsoError, match="--norm L2: nothing was trained for it, so that --eps must say"):
            get(weights.origin("mnist"), "mnist", "L2")


@pytest.mark.usefixtures("fresh_progress")
def test_an_unknown_radius_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert radii_of(origin(), "photographs") == (0.15, 0.3)
    assert "the recipe names no radius: 0.15, 0.3 are taken" in capsys.readouterr().err


def test_foreseen_is_what_was_trained_against() -> None:
    protocol = protocol_of(COLOUR, "photographs")
    foreseen = {(row.attack, row.eps) for row in protocol.rows if row.foreseen}
    assert foreseen == {("none", 0.0), ("fgsm", EPS), ("pgd", EPS), ("pgd-eot", 4 / 255)}
    assert {row.eps for row in protocol.rows} == {0.0, 4 / 255, EPS}
    assert {row.attack for row in protocol.rows} == {"none", "fgsm", "pgd", "deepfool", "pgd-eot"}
    assert not any(row.thesis for row in protocol.rows)
    assert {row.eps for row in protocol.sweep_rows} == {0.0, EPS}


def test_steps_and_curve_are_to_scale() -> None:
    protocol = protocol_of(COLOUR, "photographs", (0.5, EPS))
    for row in (*protocol.rows, *protocol.curve_rows):
        if row.attack == "pgd":
            assert row.options["steps"] * row.options["alpha"] == pytest.approx(4 / 3 * row.eps, rel=1e-3)
    assert max(row.eps for row in protocol.curve_rows) == pytest.approx(0.5 * 0.5 / 0.3)


def test_other_radii_have_no_figures_of_the_thesis() -> None:
    protocol = protocol_of(weights.origin("mnist"), "mnist", (0.1,))
    assert {row.eps for row in protocol.rows} == {0.0, 0.1}
    assert not any(row.thesis for row in protocol.rows)
