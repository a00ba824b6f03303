from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from carso.nn.convolutional import Compressor, decoder, image_compressor


@given(st.integers(1, 4), st.integers(16, 80), st.integers(16, 80))
@settings(max_examples=20, deadline=None)
def test_the_decoder_draws_any_size(channels: int, height: int, width: int) -> None:
    images = decoder(6, (channels, height, width)).eval()(torch.randn(2, 6))
    assert images.shape == (2, channels, height, width)
    assert 0 < images.min() < images.max() < 1


@pytest.mark.parametrize(("side", "first"), [(32, (256, 3, 3)), (64, (256, 4, 4)), (224, (256, 4, 4))])
def test_the_decoder_begins_with_the_published_maps(side: int, first: tuple[int, int, int]) -> None:
    network = decoder(640, (3, side, side))
    assert network[0].in_features == 640
    assert network[2].unflattened_size == first
    doublings = [layer for layer in network if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in doublings][:4] == [256, 128, 64, 32]
    assert len(doublings) == (6 if side == 224 else 4)


def test_published_compressors_are_as_published() -> None:
    network = Compressor([(160, 32, 32), (10,)], "published", side=32)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size, c.padding, c.bias) for c in convolutions] == [
        (80, (3, 3), (0, 0), None),
        (40, (3, 3), (0, 0), None),
        (20, (3, 3), (0, 0), None),
    ]
    assert network.features == 20 * 26 * 26 + 10
    larger = Compressor([(16, 64, 64)], "published", side=64)
    assert sum(isinstance(layer, nn.Conv2d) for layer in larger.modules()) == 4


MAPS = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))


@given(st.lists(MAPS, min_size=1, max_size=4), st.booleans())
@settings(max_examples=20, deadline=None)
def test_features_are_what_comes_out(shapes: list[tuple[int, int, int]], bounded: bool) -> None:
    network = Compressor([*shapes, (5,)], "bounded" if bounded else "published", 32).eval()
    rows = torch.randn(2, sum(map(math.prod, shapes)) + 5)
    assert network(rows).shape == (2, network.features)
    if bounded:
        assert network.features <= sum(math.ceil(channels / 8) * 4 * 4 for channels, _, _ in shapes) + 5


def test_layers_are_compressed_each_by_its_own_network() -> None:
    network = Compressor([(8, 9, 9), (8, 9, 9)], "bounded", 32).eval()
    rows = torch.randn(2, 2 * 648)
    moved = rows.clone()
    moved[:, :648] += 1
    same, other = network(moved)[:, network.features // 2 :], network(moved)[:, : network.features // 2]
    torch.testing.assert_close(same, network(rows)[:, network.features // 2 :])
    assert not torch.allclose(other, network(rows)[:, : network.features // 2])


def test_the_image_is_compressed_in_two_strides() -> None:
    assert image_compressor((3, 32, 32)).eval()(torch.rand(2, 3072)).shape == (2, 12 * 8 * 8)
