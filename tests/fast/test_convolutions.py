import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from carso.fast.convolutions import Opening, Unshuffled, first_unshuffled, opens
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


def whole(*shape: int) -> torch.Tensor:
    """Numbers so small that bfloat16 holds their products and sums."""
    return torch.randint(-1, 2, shape).float()


@given(
    st.integers(1, 4),
    st.tuples(st.integers(5, 9), st.integers(5, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.booleans(),
    st.sampled_from([torch.bfloat16, torch.float32]),
)
def test_an_opening_is_the_convolution(
    channels: int,
    sides: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    biased: bool,
    dtype: torch.dtype,
) -> None:
    convolution = nn.Conv2d(channels, 6, kernel, stride, padding, bias=biased)
    for weight in convolution.parameters():
        weight.data = whole(*weight.shape)
    images = whole(3, channels, *sides).requires_grad_()
    expected, found = convolution(images), Opening(convolution, dtype)(images)
    assert found.dtype is dtype
    assert torch.equal(found.float(), expected)
    slope = whole(*expected.shape)
    for layout in (torch.contiguous_format, torch.channels_last):
        rounded = slope.to(dtype).contiguous(memory_format=layout)
        (ours,) = torch.autograd.grad(found, images, rounded, retain_graph=True)
        (theirs,) = torch.autograd.grad(expected, images, slope, retain_graph=True)
        assert torch.equal(ours, theirs)


def test_a_step_that_bfloat16_would_lose_is_not_lost() -> None:
    step = 2.0**-14
    images = torch.tensor([0.75, 0.75 + step]).view(1, 1, 1, 2)
    convolution = nn.Conv2d(1, 1, (1, 2), bias=False)
    convolution.weight.data = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)
    assert convolution.bfloat16()(images.bfloat16()).item() == 0
    assert Opening(convolution, torch.bfloat16)(images).item() == step


@pytest.mark.parametrize(
    ("convolution", "answer"),
    [
        (nn.Conv2d(4, 8, 3), True),
        (nn.Conv2d(5, 8, 3), False),
        (nn.Conv2d(2, 8, 3, groups=2), False),
        (nn.Conv2d(3, 8, 3, dilation=2), False),
        (nn.Conv2d(3, 8, 3, padding="same"), False),
        (nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), False),
        (nn.ConvTranspose2d(3, 8, 3), False),
    ],
    ids=["four channels", "five", "groups", "dilated", "named padding", "reflected", "transposed"],
)
def test_which_convolutions_open(convolution: nn.Module, answer: bool) -> None:
    assert opens(convolution) is answer
