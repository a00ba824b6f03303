from collections.abc import Sequence

import pytest
import torch
from torch import Generator, Tensor

import carso
from carso.evaluation import sweep
from carso.nn import MLP
from carso.purifier import Purifier
from carso.vote import Stop, Tally


class Scripted:
    """A defence of one image whose votes are read from a script, block after block."""

    classifier: torch.nn.Module = torch.nn.Identity()

    def __init__(self, script: Sequence[int]) -> None:
        self.script = list(script)
        self.blocks: list[tuple[int | None, Generator | None]] = []

    def recall(self, images: Tensor, samples: int = 1, *, generator: Generator | None = None) -> Tensor:
        raise AssertionError("a sweep only votes")

    surrogate = recall

    def poll(
        self,
        images: Tensor,
        samples: int | None = None,
        stop: Stop | None = None,
        generator: Generator | None = None,
    ) -> Tally:
        assert stop == "never"
        votes, self.script = self.script[:samples], self.script[samples:]
        self.blocks.append((samples, generator))
        counts = torch.bincount(torch.tensor(votes), minlength=3)[None]
        return Tally(counts, torch.tensor([samples]))


def test_every_k_counts_exactly_the_first_k_votes() -> None:
    defence = Scripted([2, 0, 0, 1, 1, 1])
    predicted = sweep.elected(
        defence, torch.zeros(1, 1, 2, 2), (1, 2, 3, 6), lambda k: torch.Generator().manual_seed(k)
    )
    assert predicted.tolist() == [[2], [0], [0], [1]]
    assert [samples for samples, _ in defence.blocks] == [1, 1, 1, 3]
    assert [generator.initial_seed() for _, generator in defence.blocks] == [1, 2, 3, 6]


def test_the_ladder_ends_at_the_most() -> None:
    assert sweep.up_to(1500) == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1500)
    assert sweep.up_to(60) == (1, 2, 5, 10, 20, 50, 60)
    assert sweep.up_to(1) == (1,)


@pytest.mark.parametrize("samples", [(), (2, 1), (1, 1), (0, 1)])
def test_refuses_a_ladder_that_does_not_rise(samples: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="increasing"):
        sweep.elected(Scripted([]), torch.zeros(1, 1, 2, 2), samples, lambda k: None)


def test_a_fixed_defence_votes_by_its_first_latents_whatever_k() -> None:
    torch.manual_seed(0)
    whole = carso.CARSO(MLP((1, 8, 8), (12,), 5).eval(), Purifier((1, 8, 8), 17, latent=4), samples=40)
    with torch.no_grad():
        whole.purifier.decoder[0].weight.mul_(20)
        whole.purifier.decoder[-2].weight.mul_(20)
    fixed, images = whole.fixed(3), torch.rand(30, 1, 8, 8)
    found = sweep.elected(fixed, images, (1, 2, 5, 40), lambda k: torch.Generator().manual_seed(k))
    assert len(found.unique(dim=0)) > 1
    for k, classes in zip((1, 2, 5, 40), found, strict=True):
        assert torch.equal(classes.long(), fixed.poll(images, samples=k, stop="never").winners)
