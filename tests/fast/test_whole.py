from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from tests.networks import Scaling
from torch import Tensor, nn

from carso import CARSO
from carso.fast import faster, full_precision
from carso.fast.network import reading
from carso.fast.whole import ConvolvedDefence, convolve_defence
from carso.nn import MLP, ResNet
from carso.purifier import ConvolutionalPurifier
from carso.representation import Representation

pytestmark = pytest.mark.usefixtures("untyped")

SHAPE = (3, 16, 16)
IMAGES = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))


def moved(module: nn.Module) -> nn.Module:
    """With batch norms that have seen something."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator) / 4)
            norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
    return module.eval()


def in_place() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, 1, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def defence_of(build: Callable[[], nn.Module], layers: tuple[str, ...], maps: tuple[int, ...] = ()) -> CARSO:
    classifier = build().eval()
    shapes = [s for found in Representation(classifier, layers).shapes(IMAGES[:1]).values() for s in found]
    purifier = ConvolutionalPurifier(SHAPE, shapes, latent=4, code=12, compression="bounded", maps=maps)
    return CARSO(moved(classifier), moved(purifier), layers, samples=8)


CASES: list[tuple[Callable[[], nn.Module], tuple[str, ...], tuple[int, ...]]] = [
    (lambda: ResNet(SHAPE, width=8, blocks=(1, 1)), ("input", "groups.0", "groups.1", "output"), (8, 16)),
    (lambda: ResNet(SHAPE, width=8, blocks=(1, 1)), ("groups.0.0.conv1", "groups.1"), ()),
    (in_place, ("0", "1", "3", "output"), ()),
]


@pytest.mark.parametrize(("build", "layers", "maps"), CASES)
def test_the_form_answers_as_the_defence_does(
    build: Callable[[], nn.Module], layers: tuple[str, ...], maps: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    defence = defence_of(build, layers, maps)
    found = convolve_defence(defence.classifier, defence.purifier, layers, IMAGES)
    assert found is not None
    exact, low, batch = found
    assert batch >= 8
    shared, own = torch.randn(3, 4), torch.randn(6, 2, 4)
    torch.testing.assert_close(exact(IMAGES, shared), defence.logits(IMAGES, latents=shared), atol=1e-4, rtol=1e-4)
    single = torch.stack([exact(IMAGES[i : i + 1], own[i])[0] for i in range(6)])
    torch.testing.assert_close(exact(IMAGES, own), single, atol=1e-4, rtol=1e-4)

    def slope(form: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        x = IMAGES.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(form(x, shared)[:, :, 0].sum(), x)
        return gradient.flatten(1)

    theirs = slope(lambda x, z: defence.logits(x, latents=z))
    torch.testing.assert_close(slope(exact), theirs, atol=1e-5, rtol=1e-3)
    assert (F.cosine_similarity(slope(low), theirs) > 0.9).all()


def test_attacks_differentiate_it() -> None:
    torch.manual_seed(0)
    defence = defence_of(*CASES[0])
    quick = faster(defence, IMAGES)
    assert isinstance(quick.folded, ConvolvedDefence)
    assert quick.batch
    with full_precision():
        z, exact = torch.randn(2, 4), faster(defence, IMAGES)
    torch.testing.assert_close(exact.logits(IMAGES, latents=z), defence.logits(IMAGES, latents=z), atol=1e-4, rtol=1e-4)
    assert faster(defence, IMAGES, wanted=False).folded is None
    assert faster(defence).folded is None


def twice() -> nn.Module:
    layer = nn.Conv2d(3, 3, 3, 1, 1)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Flatten(), nn.Linear(768, 5))


class Halved(ResNet):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(Scaling.apply(images, 0.5))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("kind", "found"), [(ResNet, True), (Halved, False)])
def test_a_defence_whose_classifier_hands_back_a_gradient_of_its_own_is_taken_as_it_is(
    kind: type[ResNet], found: bool
) -> None:
    torch.manual_seed(0)
    defence = defence_of(lambda: kind(SHAPE, width=8, blocks=(1, 1)), *CASES[0][1:])
    assert (faster(defence, IMAGES).folded is not None) == found


def test_a_defence_that_is_not_what_its_layers_say_is_taken_as_it_is() -> None:
    torch.manual_seed(0)
    defence = defence_of(*CASES[0])
    decode = defence.purifier.decode
    defence.purifier.decode = lambda *given: 1 - decode(*given)  # type: ignore[method-assign]
    assert faster(defence, IMAGES).folded is None
    hooked = defence_of(*CASES[0])
    hooked.classifier.register_forward_hook(lambda *_: None)
    assert faster(hooked, IMAGES).folded is None


@pytest.mark.parametrize("part", ["maps", "decoder"])
def test_what_has_a_hook_is_taken_as_it_is(part: str) -> None:
    defence = defence_of(*CASES[1])
    module = defence.purifier.decoder[-1] if part == "decoder" else defence.purifier.maps
    handle = module.register_forward_pre_hook(lambda module, given: None)
    assert convolve_defence(defence.classifier, defence.purifier, defence.representation.layers, IMAGES) is None
    handle.remove()
    assert convolve_defence(defence.classifier, defence.purifier, defence.representation.layers, IMAGES) is not None


def test_layers_that_cannot_be_read_once_are_not_read() -> None:
    assert reading(twice().eval(), ("0", "output"), IMAGES) is None
    assert reading(ResNet(SHAPE, width=8, blocks=(1,)).eval(), ("nowhere",), IMAGES) is None
    assert reading(MLP(SHAPE, (8,), 3).eval(), ("output",), IMAGES) is None


def test_what_is_read_are_the_outputs_before_anything_writes_over_them() -> None:
    torch.manual_seed(0)
    network = moved(in_place())
    read = reading(network, ("input", "1", "3", "output"), IMAGES)
    assert read is not None
    first, norm, second, logits = read.exact(IMAGES)
    heard: dict[str, Tensor] = {}
    for name in ("1", "3"):
        network.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: heard.update({name: o.clone()}))
    torch.testing.assert_close(logits, network(IMAGES))
    assert torch.equal(first, IMAGES)
    torch.testing.assert_close(norm, heard["1"])
    torch.testing.assert_close(second, heard["3"])
