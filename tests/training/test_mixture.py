import pytest
import torch

from carso.nn import MLP
from carso.training.mixture import Mixture
from carso.training.recipe import AttackSpec

ATTACKS = [
    AttackSpec(attack="pgd", eps=0.2, steps=3, alpha=0.1),
    AttackSpec(attack="fgsm", eps=0.1),
    AttackSpec(attack="pgd", eps=0.3, steps=3),
    AttackSpec(attack="fgsm", eps=0.05),
    AttackSpec(attack="annealed", eps=0.15, steps=3, loss="margin"),
]


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_every_part_has_its_radius(scale: float) -> None:
    model, images = MLP((1, 4, 4), (8,)).eval(), torch.rand(12, 1, 4, 4) * 0.2 + 0.4
    mixture = Mixture(ATTACKS)
    moved = (mixture.mix(model, images, torch.arange(12) % 10, scale=scale) - images).abs().flatten(1).amax(1)
    radii = [0.0, *(scale * spec.eps for spec in mixture.attacks)]
    assert sorted(radii) == [scale * eps for eps in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)]
    for part, eps in enumerate(radii):
        of_part = moved[2 * part : 2 * part + 2]
        assert (of_part <= eps + 1e-6).all()
        assert (of_part > 0.5 * eps).all() or eps == 0


def test_several_parts_may_be_clean() -> None:
    model, images, mixture = MLP((1, 4, 4), (8,)).eval(), torch.rand(16, 1, 4, 4), Mixture(ATTACKS[:4], clean=4)
    labels = torch.arange(16) % 10
    changed = (mixture.mix(model, images, labels) != images).flatten(1).any(1)
    assert changed.tolist() == [False] * 8 + [True] * 8
    assert mixture.parts == 8
    assert torch.equal(mixture.part(3, model, images, labels), images)
    assert not torch.equal(mixture.part(4, model, images, labels), images)


def test_attacks_on_the_defence_see_the_defence() -> None:
    seen = []

    def defence(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return images.flatten(1)[:, :10]

    spec = AttackSpec(attack="pgd", eps=0.1, steps=4, directed_at="defence")
    Mixture([spec]).mix(MLP((1, 4, 4)).eval(), torch.rand(6, 1, 4, 4), torch.zeros(6, dtype=torch.long), defence)
    assert seen == [3] * 4


def test_attacks_on_the_defence_run_together_each_with_its_own_loss() -> None:
    """The third logit is the largest but the label's: cross-entropy also raises the second, the margin leaves it."""
    seen = []

    def defence(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return images.flatten(1) * torch.tensor([1.0, 1.0, 0.0]) + torch.tensor([0.0, 0.0, 5.0])

    def spec(loss: str, eps: float) -> AttackSpec:
        return AttackSpec(attack="annealed", eps=eps, steps=4, loss=loss, directed_at="defence")

    specs = [spec("cross_entropy", 0.1), spec("margin", 0.2), spec("cross_entropy", 0.3)]
    images, labels = torch.full((8, 1, 1, 3), 0.5), torch.zeros(8, dtype=torch.long)
    torch.manual_seed(0)
    together = Mixture(specs).mix(lambda _: pytest.fail("asked"), images, labels, defence)
    first, second, _ = (together - images).flatten(1).unbind(1)
    assert seen == [6] * 4
    torch.testing.assert_close(first, -torch.tensor([0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3]))
    torch.testing.assert_close(second[[2, 3, 6, 7]], torch.tensor([0.1, 0.1, 0.3, 0.3]))
    assert ((second[4:6].abs() < 0.19) & (second[4:6] != 0)).all()


def test_losses_of_runs_survive_a_defence_that_folds() -> None:
    specs = [AttackSpec(attack="pgd", eps=0.1, steps=1, loss=loss, directed_at="defence") for loss in ("dlr", "margin")]
    model, images = MLP((1, 28, 28)).eval(), torch.rand(2400, 1, 28, 28)
    assert Mixture(specs).mix(model, images, torch.zeros(2400, dtype=torch.long), model).shape == images.shape


def test_without_attacks_the_batch_is_clean() -> None:
    images = torch.rand(5, 1, 4, 4)
    assert torch.equal(Mixture([]).mix(MLP((1, 4, 4)), images, torch.zeros(5, dtype=torch.long)), images)


def test_noise_asks_no_model() -> None:
    images = torch.full((4000, 1, 2, 2), 0.5)
    spec = AttackSpec(attack="noise", eps=0.4)
    part = Mixture([spec]).part(1, lambda _: pytest.fail("asked"), images, torch.zeros(4000, dtype=torch.long))
    moved = part - images
    assert moved.abs().max() <= 0.4
    assert moved.mean().abs() < 0.01
    assert moved.var() == pytest.approx(0.4**2 / 3, rel=0.05)


def test_n_fgsm_is_one_step_from_noise_of_twice_the_radius() -> None:
    """On a linear model the step is known: eps up or down per pixel, whatever the noise."""
    slope = torch.tensor([1.0, -1.0, 1.0, -1.0])

    def model(images: torch.Tensor) -> torch.Tensor:
        score = images.flatten(1) @ slope
        return torch.stack([score, -score], dim=1)

    images, labels = torch.full((1000, 1, 2, 2), 0.5), torch.ones(1000, dtype=torch.long)
    torch.manual_seed(0)
    found = Mixture([AttackSpec(attack="n-fgsm", eps=0.1)], clean=False).mix(model, images, labels)
    noise = (found - images).flatten(1) - 0.1 * slope
    assert noise.abs().max() <= 0.2 + 1e-6
    torch.testing.assert_close(noise.std(0), torch.full((4,), 0.4 / 12**0.5), atol=0.01, rtol=0)


def test_a_given_loss_takes_the_place_of_every_attacks_own() -> None:
    def model(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    images, rows = torch.full((6, 1, 1, 2), 0.5), torch.arange(6)
    specs = [AttackSpec(attack="pgd", eps=eps, steps=3) for eps in (0.1, 0.2)]
    climbed = Mixture(specs, clean=False).mix(model, images, rows, loss=lambda z, r: z[:, 1] * (1 - 2 * (r % 2)))
    up = 1 - 2 * (rows % 2)
    torch.testing.assert_close((climbed - images)[:, 0, 0, 1], up * torch.tensor([0.1] * 3 + [0.2] * 3))
