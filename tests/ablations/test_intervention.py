import pytest
import torch

from carso import CARSO, vote
from carso.ablations.intervention import Ablated, intervened
from carso.ablations.study import Intervention
from carso.data import Dataset


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(8, 1, 6, 6, generator=seeded())


def test_with_another_images_code_the_vote_is_that_of_the_other_image(
    defence: CARSO, images: torch.Tensor, held_out: Dataset
) -> None:
    twin = intervened(defence, Intervention(code="another"), held_out, 0)
    assert isinstance(twin, Ablated)
    others = held_out.images[twin.donors(images)]
    assert torch.equal(twin.votes(images, seeded()), defence.votes(others, seeded()))
    assert not torch.equal(twin.votes(images, seeded()), defence.votes(images, seeded()))


def test_which_code_replaces_an_images_own_depends_on_it_alone(
    defence: CARSO, images: torch.Tensor, held_out: Dataset
) -> None:
    twin = intervened(defence, Intervention(code="another"), held_out, 0)
    one_by_one = torch.cat([twin.codes(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(twin.codes(images), one_by_one)
    assert len(twin.codes(images).unique(dim=0)) > 1


def test_noise_keeps_the_distribution_of_every_component(defence: CARSO, held_out: Dataset) -> None:
    twin = intervened(defence, Intervention(code="noise"), held_out, 0)
    codes = defence.codes(held_out.images)
    assert isinstance(twin, Ablated)
    assert twin.replacement is not None
    assert torch.equal(twin.replacement.sort(0).values, codes.sort(0).values)
    assert not torch.equal(twin.replacement, codes)


def test_nothing_of_the_image_is_left_where_its_code_is_replaced(
    defence: CARSO, images: torch.Tensor, held_out: Dataset
) -> None:
    x = images.clone().requires_grad_()
    intervened(defence, Intervention(code="noise"), held_out, 0).surrogate(x, 3).sum().backward()
    assert x.grad is not None
    assert not x.grad.any()


def test_without_latents_all_candidates_of_an_image_are_one(
    defence: CARSO, images: torch.Tensor, held_out: Dataset
) -> None:
    twin = intervened(defence, Intervention(latent="zero"), held_out, 0)
    candidates = twin.recall(images, 5)
    assert torch.equal(candidates, candidates[:, :1].expand_as(candidates))
    assert torch.equal(candidates[:, 0], defence.recall(images, latents=torch.zeros(1, 3))[:, 0])
    assert torch.equal(twin.votes(images).max(1).values, torch.full((8,), 20))


@pytest.mark.parametrize("aggregation", ["mode", "mean-logit", "mean-probability", "exponential", "peel"])
def test_an_aggregation_is_that_of_the_candidates_logits(
    aggregation: vote.Aggregation, defence: CARSO, images: torch.Tensor, held_out: Dataset
) -> None:
    twin = intervened(defence, Intervention(aggregation=aggregation, samples=9), held_out, 0)
    twin.stop = "never"
    direct = vote.AGGREGATES[aggregation](defence.logits(images, 9, generator=seeded()))
    torch.testing.assert_close(twin(images, seeded()), direct)


def test_an_ablation_of_a_fixed_defence_is_fixed(defence: CARSO, images: torch.Tensor, held_out: Dataset) -> None:
    fixed = defence.fixed(3)
    fixed.data, fixed.class_names = "bars", ("left", "right", "nowhere")
    twin = intervened(fixed, Intervention(code="noise"), held_out, 0)
    assert (twin.fixed_by, twin.data, twin.class_names) == (3, "bars", ("left", "right", "nowhere"))
    assert torch.equal(twin.votes(images, seeded()), twin.votes(images))
    assert "latents fixed by seed 3" in repr(twin)
    assert "fixed" not in repr(intervened(defence, Intervention(code="noise"), held_out, 0))


def test_the_defence_stays_as_it_was(defence: CARSO, images: torch.Tensor, held_out: Dataset) -> None:
    before = defence.votes(images, seeded())
    for change in (Intervention(samples=3), Intervention(latent="zero"), Intervention(code="another", samples=2)):
        twin = intervened(defence, change, held_out, 0)
        assert twin.samples == change.samples or twin.samples == defence.samples
        assert twin.purifier is defence.purifier
    assert defence.samples == 20
    assert torch.equal(defence.votes(images, seeded()), before)
