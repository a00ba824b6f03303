import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from carso.nn import MLP
from carso.nn.maps import Maps, unflattened
from carso.representation import Representation


def test_a_representation_is_taken_apart_in_order() -> None:
    flat, image = unflattened(torch.arange(14.0).view(2, 7), [[3], [1, 2, 2]])
    assert flat.tolist() == [[0, 1, 2], [7, 8, 9]]
    assert image.tolist() == [[[[3, 4], [5, 6]]], [[[10, 11], [12, 13]]]]


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=3),
    st.lists(st.integers(1, 3), max_size=3),
)
def test_features_are_what_comes_out(shapes: list[list[int]], channels: list[int]) -> None:
    maps = Maps(shapes, channels)
    assert maps(torch.randn(2, sum(map(math.prod, shapes)))).shape == (2, maps.features)


def test_flat_layers_pass_and_maps_are_convolved_in_order() -> None:
    maps = Maps([(5,), (1, 8, 8), (2,)], (3, 4))
    rows = torch.randn(6, 5 + 64 + 2)
    first, second = (m for m in maps.modules() if isinstance(m, nn.Conv2d))
    hidden = nn.functional.leaky_relu(first(rows[:, 5:69].view(6, 1, 8, 8)), 0.1)
    convolved = nn.functional.leaky_relu(second(hidden), 0.1).flatten(1)
    assert convolved.shape == (6, 4 * 2 * 2)
    torch.testing.assert_close(maps(rows), torch.cat([rows[:, :5], convolved, rows[:, 69:]], dim=1))


def test_an_image_moved_by_a_stride_moves_its_map() -> None:
    maps, image = Maps([(1, 16, 16)], (3,)), torch.zeros(1, 1, 16, 16)
    image[:, :, 4:10, 4:10] = torch.rand(6, 6)
    here, there = (maps(i.flatten(1)).view(3, 8, 8) for i in (image, image.roll((2, 2), (2, 3))))
    torch.testing.assert_close(here[:, 1:6, 1:6], there[:, 2:7, 2:7])


@pytest.mark.parametrize("shape", [(7, 1, 1), (7, 3, 1), (7,)])
def test_a_map_of_a_pixel_is_left_alone(shape: tuple[int, ...]) -> None:
    rows = torch.randn(2, math.prod(shape))
    assert torch.equal(Maps([shape], (4,))(rows), rows)


def test_a_classifier_may_begin_with_convolutions() -> None:
    classifier = MLP((1, 8, 8), (7,), 5, maps=(3, 4)).eval()
    images = torch.rand(6, 1, 8, 8)
    convolved = Maps([(1, 8, 8)], (3, 4))
    convolved.layers[0].load_state_dict(classifier.maps.state_dict())
    features = convolved(((images - 0.1307) / 0.3081).flatten(1))
    hidden = classifier.norm1(nn.functional.mish(classifier.linear1(features)))
    torch.testing.assert_close(classifier(images), classifier.logits(hidden))
    assert Representation(classifier).sizes(images) == {"maps.1": 48, "maps.3": 16, "mish1": 7, "output": 5}
