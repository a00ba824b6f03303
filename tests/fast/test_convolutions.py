import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from carso.fast.convolutions import Unshuffled, first_unshuffled
from carso.nn.maps import Maps


@given(st.integers(1, 3), st.integers(2, 11), st.integers(2, 11), st.booleans())
def test_an_unshuffled_convolution_is_the_convolution(channels: int, height: int, width: int, biased: bool) -> None:
    convolution = nn.Conv2d(channels, 5, kernel_size=4, stride=2, padding=1, bias=biased).double()
    images = torch.randn(2, channels, height, width, dtype=torch.float64, requires_grad=True)
    expected, found = convolution(images), Unshuffled(convolution)(images)
    torch.testing.assert_close(found, expected)
    slope = torch.randn_like(expected)
    gradients = (torch.autograd.grad(maps, images, slope, retain_graph=True)[0] for maps in (found, expected))
    torch.testing.assert_close(*gradients)


def test_the_first_convolution_is_unshuffled_where_channels_are_few() -> None:
    maps = Maps([(6,), (1, 2, 3), (5, 8, 8), (3, 9, 8)], (4, 7)).double()
    rows = torch.randn(2, 6 + 6 + 320 + 216, dtype=torch.float64)
    expected = maps(rows)
    maps.layers = nn.ModuleList(map(first_unshuffled, maps.layers))
    kinds = [[type(layer).__name__ for layer in layers.children()] for layers in maps.layers]
    whole, blocks = ["Conv2d", "LeakyReLU"], ["Unshuffled", "LeakyReLU"]
    assert kinds == [[], blocks, [*whole, *whole], [*blocks, *whole]]
    torch.testing.assert_close(maps(rows), expected)
