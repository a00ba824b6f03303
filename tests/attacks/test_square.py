from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.attacks.losses import margin
from carso.attacks.noise import noise
from carso.attacks.square import portion, pyramids, square
from carso.audit.target import Known
from carso.types import Budget

Batch = tuple[Tensor, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def survivors(model: Any, images: Tensor, labels: Tensor) -> int:
    with torch.no_grad():
        return int((model(images).argmax(1) == labels).sum())


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.15), ("L2", 1.5), ("L1", 12.0)])
class TestBothNorms:
    def test_it_beats_noise_from_scores_alone(self, norm: Any, eps: float, network: nn.Module, batch: Batch) -> None:
        budget = Budget(norm, eps)

        def scores(images: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            logits: Tensor = network(images)
            return logits

        found = square(scores, *batch, budget, queries=100, generator=seeded())
        loud = noise(network, *batch, budget, draws=20, generator=seeded())
        assert survivors(network, found, batch[1]) < 0.6 * survivors(network, loud, batch[1])

    def test_budget_box_and_seed(self, norm: Any, eps: float, network: nn.Module, batch: Batch) -> None:
        found = square(network, *batch, Budget(norm, eps), queries=20, generator=seeded())
        delta = (found - batch[0]).double().flatten(1)
        assert (delta.norm(p={"Linf": torch.inf, "L2": 2, "L1": 1}[norm], dim=1) <= eps).all()
        assert found.min() >= 0
        assert found.max() <= 1
        assert torch.equal(found, square(network, *batch, Budget(norm, eps), queries=20, generator=seeded()))
        assert not torch.equal(found, square(network, *batch, Budget(norm, eps), queries=20, generator=seeded(1)))

    def test_more_queries_fool_no_fewer(self, norm: Any, eps: float, network: nn.Module, batch: Batch) -> None:
        left = [
            survivors(
                network, square(network, *batch, Budget(norm, eps), queries=queries, generator=seeded()), batch[1]
            )
            for queries in (1, 20, 100)
        ]
        assert left[2] < left[1] < left[0]


def test_shares_of_votes_serve_as_scores(network: nn.Module, batch: Batch) -> None:
    """Eleven noisy candidates vote; the attacker sees the shares."""
    images, labels = batch[0][:60], batch[1][:60]

    def shares(images: Tensor) -> Tensor:
        votes = [network(images + 0.05 * torch.randn_like(images)).argmax(1) for _ in range(11)]
        return nn.functional.one_hot(torch.stack(votes), 10).float().mean(0)

    torch.manual_seed(0)
    before = survivors(shares, images, labels)
    found = square(shares, images, labels, Budget("Linf", 0.25), queries=60, generator=seeded())
    assert survivors(shares, found, labels) < before / 2


def test_it_climbs_on_where_being_fooled_is_no_success(network: nn.Module, batch: Batch) -> None:
    images, labels = batch

    def climbed(varies: bool) -> Tensor:
        scores = Known(network, None, varies)
        found = square(scores, images, labels, Budget("Linf", 0.15), queries=60, generator=seeded())
        with torch.no_grad():
            return margin(network(found), labels)

    rests, goes_on = climbed(False), climbed(True)
    assert (rests > 0).any()
    assert goes_on.mean() > rests.mean() + 1


def test_square_images_are_not_needed() -> None:
    images = torch.rand(3, 2, 5, 9)
    model = nn.Sequential(nn.Flatten(), nn.Linear(90, 3))
    labels = model(images).argmax(1)
    for norm, eps in (("Linf", 0.1), ("L2", 0.5), ("L1", 4.0)):
        assert square(model, images, labels, Budget(norm, eps), queries=30).shape == images.shape  # type: ignore[arg-type]


def test_the_share_falls_on_the_schedule_of_the_paper() -> None:
    assert [portion(query / 10_000, 0.8) for query in (0, 10, 11, 51, 201, 8001)] == [
        0.8,
        0.8,
        0.4,
        0.2,
        0.1,
        0.8 / 512,
    ]


def test_pyramids_are_those_of_the_published_code() -> None:
    published = pytest.importorskip("pyautoattack.square").SquareAttack(None, norm="L2", eps=1.0, device="cpu")
    for side in (3, 4, 7):
        theirs = published.eta(side)
        ours = pyramids(side, theirs)
        assert min((ours - theirs).abs().max(), (ours.mT - theirs).abs().max()) < 1e-6


@pytest.mark.slow
def test_no_weaker_than_the_published_code(network: nn.Module, batch: Batch) -> None:
    published = pytest.importorskip("pyautoattack.square").SquareAttack
    ours = theirs = 0
    for seed in range(5):
        rival = published(network, norm="Linf", eps=0.1, n_queries=300, resc_schedule=True, seed=seed)
        theirs += survivors(network, rival.perturb(*batch), batch[1])
        found = square(network, *batch, Budget("Linf", 0.1), queries=300, generator=seeded(seed))
        ours += survivors(network, found, batch[1])
    assert ours <= 1.05 * theirs


@pytest.mark.parametrize("options", [{"queries": 0}, {"share": 0.0}, {"share": 1.1}])
def test_nonsense_is_refused(options: dict[str, Any], network: nn.Module, batch: Batch) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(options))} must "):
        square(network, *batch, Budget("Linf", 0.1), **options)


@pytest.mark.parametrize(("power", "exponent"), [(1, 4), (2, 2)])
def test_pyramids_fall_steeper_in_l1(power: int, exponent: int) -> None:
    """By rings around the centre of a hill of three rows and five columns: sums of 1, 2^-e, 3^-e from each on."""
    terms = torch.tensor([ring**-exponent for ring in (1.0, 2.0, 3.0)])
    rings = terms.flip(0).cumsum(0).flip(0)
    hill = pyramids(5, torch.ones(1), power)[:2]
    torch.testing.assert_close(hill / hill[1, 2], rings[torch.tensor([[2, 1, 1, 1, 2], [2, 1, 0, 1, 2]])] / rings[0])
