import pytest
import torch
from torch import nn

from carso.nn import CNN


def test_digits_meet_the_network_of_trades() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in CNN().parameters()) == 312_202


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 40)])
def test_it_is_what_its_options_say(shape: tuple[int, int, int]) -> None:
    mean, std = (0.5,) * shape[0], (0.25,) * shape[0]
    model = CNN(shape, (2, 3), (5,), 7, mean, std).eval()
    assert model(torch.rand(2, *shape)).shape == (2, 7)
    assert CNN(**model.options).state_dict().keys() == model.state_dict().keys()


def test_it_computes_what_the_equation_says() -> None:
    torch.manual_seed(0)
    model, images = CNN((1, 8, 9), (2,), (5,), 3, (0.5,), (0.25,)), torch.rand(4, 1, 8, 9)
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    h = (images - 0.5) / 0.25
    for layer in convolutions:
        h = torch.conv2d(h, layer.weight, layer.bias).clamp(min=0)
    h = h[:, :, :4, :4].unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2)).flatten(1)
    h = (h @ model.linear1.weight.T + model.linear1.bias).clamp(min=0)
    torch.testing.assert_close(model(images), h @ model.output.weight.T + model.output.bias)


def test_images_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 10 x 28 are too small for 2 groups"):
        CNN((1, 10, 28))
