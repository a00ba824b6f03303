from pathlib import Path

import pytest

import carso
from carso.campaign import attack
from carso.data import load_pairs


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
