from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carso.errors import CarsoError
from carso.fast import pullback
from carso.nn import MLP, ResNet
from carso.training.device import choose_device, lowered, overruns, placed, placed_around

CPU = torch.device("cpu")


def last(module: nn.Module) -> bool:
    """Whether kernels of several pixels lie channels last."""
    kernels = [p for p in module.parameters() if p.ndim == 4 and p.shape[2] > 1 and p.shape[1] > 1]
    return all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


@pytest.mark.parametrize(
    ("conv", "overrun"),
    [
        (nn.Conv2d(4, 8, 1, stride=2), True),
        (nn.Conv2d(15, 8, 1, stride=2), True),
        (nn.Conv2d(64, 8, 1, stride=2, groups=8), True),
        (nn.Conv2d(16, 16, 1, stride=2), False),
        (nn.Conv2d(4, 8, 1), False),
        (nn.Conv2d(4, 8, 3, stride=2), False),
    ],
)
def test_strides_of_single_pixels_over_few_channels_are_told(conv: nn.Conv2d, overrun: bool) -> None:
    assert overruns(nn.Sequential(nn.ReLU(), conv)) == overrun


@pytest.mark.parametrize("width", [8, 16])
def test_a_network_is_laid_channels_last_where_that_is_safe(width: int) -> None:
    network = placed(ResNet((3, 16, 16), width=width), CPU)
    assert last(network) == (width == 16)


def test_a_network_that_takes_nothing_channels_last_is_laid_row_by_row_and_so_is_what_makes_its_images() -> None:
    class Viewing(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.view(len(images), -1).unflatten(1, (3, 8, 8)))

    for kind, lies_last in ((nn.Sequential, True), (Viewing, False)):
        classifier, maker = kind(nn.Conv2d(3, 4, 3), nn.Flatten()), nn.Sequential(nn.Conv2d(3, 3, 3))
        placed_around(classifier, CPU, torch.rand(2, 3, 8, 8), maker)
        assert (last(classifier), last(maker)) == (lies_last, lies_last)
        assert classifier.training


def test_attacks_in_training_meet_convolutions_on_a_gpu_with_reduced_products() -> None:
    network, chain, gpu = ResNet((3, 16, 16), width=16, blocks=(1,)).eval(), MLP((3, 4, 4), (8,)), torch.device("cuda")
    assert lowered(network, CPU) is network
    assert lowered(chain, gpu) is chain
    found, images = lowered(network, gpu), torch.rand(2, 3, 16, 16)
    assert found is not network
    torch.testing.assert_close(found(images), network(images), atol=0.05, rtol=0)
    assert pullback(found, images, torch.float32).model is network


def test_attacks_in_training_meet_a_network_in_its_own_dtype() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)).double().eval()
    images = torch.rand(2, 3, 8, 8)
    found = lowered(network, torch.device("cuda"))(images)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, network(images.double()).float())


@pytest.mark.parametrize("width", [4, 12])
def test_a_narrow_network_is_trained_without_harm_to_memory(width: int) -> None:
    torch.manual_seed(0)
    narrow = placed(ResNet((3, 64, 64), width=width, blocks=(1, 1)), CPU)
    for _ in range(5):
        narrow.zero_grad()
        narrow(torch.rand(16, 3, 64, 64)).square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in narrow.parameters())


def test_devices_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == CPU
    with pytest.raises(CarsoError, match="device must be auto, cpu or cuda, not 'tpu'"):
        choose_device("tpu")
    with pytest.raises(CarsoError, match="no CUDA device is available; use --device cpu"):
        choose_device("cuda")
