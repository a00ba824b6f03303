from pathlib import Path

import pytest

import carso
from carso.campaign import attack
from carso.data import load_pairs
from carso.errors import CarsoError


@pytest.fixture(scope="module")
def defence() -> carso.CARSO:
    return carso.load("mnist")


@pytest.mark.parametrize("directed_at", ["classifier", "defence"])
def test_a_seed_gives_one_campaign(defence: carso.CARSO, directed_at: str, tmp_path: Path) -> None:
    options = {"eps": 0.3, "directed_at": directed_at, "images": 20}
    first = attack(defence, "pgd", seed=1, out=tmp_path / "a.npz", **options)
    assert attack(defence, "pgd", seed=1, out=tmp_path / "b.npz", **options) == first
    attack(defence, "pgd", seed=2, out=tmp_path / "c.npz", **options)
    a, b, c = (load_pairs(tmp_path / f"{name}.npz") for name in "abc")
    assert a.attacked.equal(b.attacked)
    assert not a.attacked.equal(c.attacked)
    assert 0 < (a.attacked - a.clean).abs().max().item() <= 0.3


def test_what_it_prints_is_what_it_returns(defence: carso.CARSO, capsys: pytest.CaptureFixture[str]) -> None:
    correct = attack(defence, "fgsm", eps=0.1, images=20)
    printed = capsys.readouterr().out
    assert "n = 20, seed 0" in printed
    for name, right in correct.items():
        assert f"{name:<10} {100 * right / 20:6.2f} % right" in printed


@pytest.mark.parametrize("eps", [0.0, float("inf"), float("nan")])
def test_a_radius_is_positive_and_finite(defence: carso.CARSO, eps: float) -> None:
    with pytest.raises(CarsoError, match="--eps must be a positive number"):
        attack(defence, "fgsm", eps=eps)


def test_a_file_that_cannot_be_written_is_said_before_the_attack(
    defence: carso.CARSO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carso.campaign.data.load", lambda *_: pytest.fail("the attack began"))
    with pytest.raises(CarsoError, match="it is a folder"):
        attack(defence, "fgsm", eps=0.1, out=tmp_path)
