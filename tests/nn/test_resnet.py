import pytest
import torch
from torch import nn

from carso.nn import ResNet


def weights(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "published"),  # the common code of the first has no norm before its mean
    [
        ({"width": 64, "blocks": (2, 2, 2, 2)}, 11_171_146 + 1_024),
        ({"width": 160, "blocks": (4, 4, 4), "stem": 16}, 36_479_194),
    ],
)
def test_the_known_networks_have_their_known_sizes_and_a_last_norm(options: dict[str, object], published: int) -> None:
    with torch.device("meta"):
        assert weights(ResNet(**options)) == published


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (4, 24, 40)])
def test_any_image_will_do(shape: tuple[int, int, int]) -> None:
    mean, std = (0.5,) * shape[0], (0.25,) * shape[0]
    model = ResNet(shape, 7, width=4, blocks=(1, 1), mean=mean, std=std).eval()
    assert model(torch.rand(2, *shape)).shape == (2, 7)
    assert ResNet(**model.options).state_dict().keys() == model.state_dict().keys()


def test_a_block_with_silent_convolutions_passes_its_input() -> None:
    block = ResNet((3, 8, 8), width=4, blocks=(2,)).groups[0][1].eval()
    nn.init.zeros_(block.conv2.weight)
    h = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(h), h)
