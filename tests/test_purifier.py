from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal
from torch.distributions import kl_divergence as oracle

from carso.nn.maps import Maps
from carso.nn.resnet import Block
from carso.purifier import (
    ConvolutionalPurifier,
    Purifier,
    Widths,
    kl_divergence,
    reconstruction_loss,
    squared_error,
)
from carso.recall import recall


def sizes(module: torch.nn.Module) -> list[int]:
    linear = [m for m in module.modules() if isinstance(m, torch.nn.Linear)]
    return [linear[0].in_features, *(m.out_features for m in linear)]


def test_published_sizes() -> None:
    purifier = Purifier((1, 28, 28), 290)
    assert sizes(purifier.image_encoder) == [784, 490, 196]
    assert sizes(purifier.representation_encoder) == [290, 174, 58]
    assert sizes(purifier.encoder) == [254, 199, 145]
    assert sizes(purifier.mean) == sizes(purifier.log_variance) == [145, 36]
    assert sizes(purifier.decoder) == [94, 1244, 1014, 784]


def test_interpolated_sizes_are_evenly_spaced() -> None:
    widths = Widths.interpolated(784, 290, 36)
    assert widths.image == (588, 392, 196)
    assert widths.decoder == (324, 554)


@pytest.mark.parametrize(
    ("hidden", "decoder"), [(1, (439,)), (2, (324, 554)), (3, (266, 439, 612))], ids=("one", "two", "three")
)
def test_there_may_be_more_hidden_layers_or_fewer(hidden: int, decoder: tuple[int, ...]) -> None:
    widths = Widths.interpolated(784, 290, 36, hidden=hidden)
    assert widths.decoder == decoder
    assert len(widths.image) == len(widths.representation) == hidden + 1
    assert (widths.image[-1], widths.representation[-1]) == (196, 58)


def test_without_pre_encoders_the_code_is_the_representation() -> None:
    purifier = Purifier((1, 28, 28), 290, widths="uncompressed").eval()
    r = torch.rand(4, 290)
    assert torch.equal(purifier.compress(r), r)
    assert purifier.code == 290
    assert sizes(purifier.encoder)[0] == 784 + 290
    assert sizes(purifier.decoder) == [36 + 290, 1244, 1014, 784]
    with pytest.raises(ValueError, match="no layers to give sizes for"):
        Widths.uncompressed(784, 290, 36, (9, 5))


@pytest.mark.parametrize("rule", ["published", "interpolated"])
def test_the_representation_encoder_may_have_sizes_of_its_own(rule: str) -> None:
    plain, own = (Purifier((1, 28, 28), 290, widths=rule, representation=given) for given in ((), (300, 200, 100)))
    assert sizes(own.representation_encoder) == [290, 300, 200, 100]
    assert own.code == 100
    assert sizes(own.encoder)[0] == 196 + 100
    assert sizes(own.decoder)[0] == 36 + 100
    assert sizes(own.image_encoder) == sizes(plain.image_encoder)


@pytest.mark.parametrize("rule", ["published", "interpolated", "uncompressed"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1)])
def test_every_layer_has_a_neuron_however_small_the_images(rule: str, shape: tuple[int, int, int]) -> None:
    purifier = Purifier(shape, 1, latent=1, widths=rule)
    assert all(layer.out_features >= 1 for layer in purifier.modules() if isinstance(layer, torch.nn.Linear))
    found, mean, _ = purifier(torch.rand(2, *shape), torch.rand(2, 1))
    assert found.shape == (2, *shape)
    assert mean.shape == (2, 1)


@pytest.mark.whole
@pytest.mark.parametrize("widths", ["wide", None])
def test_an_unknown_rule_is_refused(widths: Any) -> None:
    with pytest.raises(ValueError, match="or one of published, interpolated, uncompressed, not"):
        Purifier((1, 8, 8), 29, widths=widths)


def test_the_representation_has_its_sizes_from_one_place() -> None:
    with pytest.raises(ValueError, match="leave out `representation`"):
        Purifier((1, 28, 28), 290, widths=Widths.published(784, 290, 36), representation=(9, 5))


def test_maps_come_before_the_representation_encoder() -> None:
    purifier = Purifier((1, 8, 8), 70, representation=(9, 5), maps=Maps([(1, 8, 8), (6,)], (3,))).eval()
    assert sizes(purifier.representation_encoder) == [3 * 16 + 6, 9, 5]
    r = torch.rand(4, 70)
    assert torch.equal(purifier.compress(r), purifier.representation_encoder(purifier.maps(r)))


def test_the_decoder_has_no_batch_norm_before_its_last_layer() -> None:
    kinds = [type(m).__name__ for m in Purifier((1, 28, 28), 290).decoder]
    assert kinds == ["Linear", "LeakyReLU", "BatchNorm1d", "Linear", "LeakyReLU", "Linear", "Sigmoid"]


@given(st.integers(1, 5), st.floats(-3, 3), st.floats(-4, 4))
def test_kl_is_that_of_torch_distributions(latent: int, mean: float, log_variance: float) -> None:
    m, v = torch.full((2, latent), mean), torch.full((2, latent), log_variance)
    expected = oracle(Normal(m, (v / 2).exp()), Normal(torch.zeros_like(m), torch.ones_like(m))).sum(1)
    torch.testing.assert_close(kl_divergence(m, v), expected, rtol=1e-4, atol=1e-5)


def test_reconstruction_is_summed_over_pixels() -> None:
    guess, clean = torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    each = torch.stack([F.binary_cross_entropy(g, c, reduction="sum") for g, c in zip(guess, clean, strict=True)])
    torch.testing.assert_close(reconstruction_loss(guess, clean), each)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 10)])
def test_shapes_and_ranges(shape: tuple[int, int, int]) -> None:
    purifier = Purifier(shape, neurons=50, latent=4)
    images = torch.rand(6, *shape)
    reconstructions, mean, log_variance = purifier(images, torch.randn(6, 50))
    assert reconstructions.shape == images.shape
    assert mean.shape == log_variance.shape == (6, 4)
    assert 0 < reconstructions.min() <= reconstructions.max() < 1


def test_a_generator_decides_the_reconstruction() -> None:
    purifier = Purifier((1, 4, 4), neurons=10, latent=4).eval()
    images, r = torch.rand(2, 1, 4, 4), torch.randn(2, 10)
    a, b, c = (purifier(images, r, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("compression", ["published", "bounded"])
def test_the_convolutional_one_keeps_the_interface(compression: str) -> None:
    torch.manual_seed(0)
    shapes = [(8, 20, 24), (16, 10, 12), (5,)]
    purifier = ConvolutionalPurifier((3, 20, 24), shapes, latent=7, code=9, compression=compression)
    images, r = torch.rand(4, 3, 20, 24), torch.randn(4, purifier.neurons)
    reconstructions, mean, log_variance = purifier(images, r)
    assert reconstructions.shape == images.shape
    assert mean.shape == log_variance.shape == (4, 7)
    codes, latents = purifier.eval().compress(r), torch.randn(3, 7)
    assert codes.shape == (4, purifier.code)
    pairs = torch.stack([purifier.decode(z.expand(4, -1), codes) for z in latents], dim=1)
    torch.testing.assert_close(recall(purifier, latents, codes), pairs)


def test_the_image_may_be_read_by_a_residual_network() -> None:
    """Its groups end in maps of at most 4 x 4; the other layers are compressed as without it."""
    torch.manual_seed(0)
    shape, shapes = (3, 20, 24), [(3, 20, 24), (8, 20, 24), (5,)]
    plain, seeing = (ConvolutionalPurifier(shape, shapes, 7, 9, "bounded", maps).eval() for maps in ((), (6, 10)))
    assert [type(layer) for layer in seeing.maps.layers[0]][1:3] == [Block, Block]
    assert str(plain.maps.layers[1:]) == str(seeing.maps.layers[1:])
    assert seeing.maps.layers[0](torch.rand(2, *shape)).shape == (2, 10, 4, 4)
    assert seeing.compress(torch.randn(4, seeing.neurons)).shape == (4, 9)
    assert seeing.options["maps"] == [6, 10]
    assert "maps" not in plain.options


def test_a_reconstruction_that_is_no_number_has_no_loss() -> None:
    guess, clean = torch.full((2, 1, 2, 2), 0.5), torch.rand(2, 1, 2, 2)
    expected = reconstruction_loss(guess, clean)
    guess[1, 0, 0, 0] = torch.nan
    found = reconstruction_loss(guess, clean)
    assert found[0] == expected[0]
    assert found[1].isnan()


def test_the_squared_error_is_that_of_each_image() -> None:
    images = torch.rand(3, 2, 4, 4)
    moved = images + torch.tensor([0.0, 0.1, 1.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(squared_error(moved, images), torch.tensor([0.0, 0.32, 32.0]))
