from pathlib import Path

import pytest

import carso
from carso.commands.attack import row_of, run
from carso.data import load_pairs
from carso.errors import CarsoError

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def defence() -> carso.CARSO:
    return carso.load("mnist")


@pytest.mark.parametrize("directed_at", ["classifier", "defence"])
def test_a_seed_gives_one_attack(defence: carso.CARSO, directed_at: str, tmp_path: Path) -> None:
    row = row_of("pgd", 0.3, "Linf", directed_at)
    first = run(defence, row, images=20, seed=1, out=tmp_path / "a.npz")
    assert run(defence, row, images=20, seed=1, out=tmp_path / "b.npz") == first
    run(defence, row, images=20, seed=2, out=tmp_path / "c.npz")
    a, b, c = (load_pairs(tmp_path / f"{name}.npz") for name in "abc")
    assert a.attacked.equal(b.attacked)
    assert not a.attacked.equal(c.attacked)
    assert 0 < (a.attacked - a.clean).abs().max().item() <= 0.3


def test_what_it_prints_is_what_it_returns(defence: carso.CARSO, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(defence, row_of("fgsm", 0.1, "Linf", "classifier"), images=20)
    printed = capsys.readouterr().out
    assert "n = 20, seed 0" in printed
    for name, rate in found.items():
        assert rate.total == 20
        assert f"{name:<10} {100 * rate.correct / 20:6.2f} % right" in printed


@pytest.mark.parametrize("eps", [0.0, 8.0, float("inf"), float("nan")])
def test_a_radius_lies_within_the_images(eps: float) -> None:
    with pytest.raises(CarsoError, match=r"eps must lie in \(0, 1\] for Linf"):
        row_of("fgsm", eps, "Linf", "classifier")


@pytest.mark.parametrize("eps", [0.0, float("inf"), float("nan")])
def test_a_radius_is_positive_and_finite(eps: float) -> None:
    with pytest.raises(CarsoError, match="eps must be a positive number"):
        row_of("fgsm", eps, "L2", "classifier")


def test_a_radius_is_at_most_the_way_from_black_to_white_of_these_images(defence: carso.CARSO) -> None:
    with pytest.raises(CarsoError, match=r"eps must lie in \(0, 28\] for L2, not 29"):
        run(defence, row_of("noise", 29, "L2", "classifier"), images=2)


def test_a_file_that_cannot_be_written_is_said_before_the_attack(
    defence: carso.CARSO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carso.data.load", lambda *_: pytest.fail("the attack began"))
    with pytest.raises(CarsoError, match="it is a folder"):
        run(defence, row_of("fgsm", 0.1, "Linf", "classifier"), out=tmp_path)
