from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from carso.fast.folding import ELEMENTWISE, fold
from carso.nn import MLP, Contrast, Standardise

IMAGES = torch.rand(16, 2, 3, 4, generator=torch.Generator().manual_seed(0))


def norm(neurons: int, **options: bool) -> nn.BatchNorm1d:
    """Batch norm that has seen something."""
    layer = nn.BatchNorm1d(neurons, **options)
    with torch.no_grad():
        for value in (*layer.parameters(), layer.running_mean, layer.running_var):
            if isinstance(value, Tensor):
                value.uniform_(0.5, 2)
    return layer


def chain(*layers: nn.Module, standardise: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    first = [Standardise((0.3, 0.6), (0.2, 0.5))] if standardise else []
    return nn.Sequential(*first, nn.Flatten(), *layers).eval()


FOLDABLE = {
    "linear": chain(nn.Linear(24, 5)),
    "no standardise": chain(nn.Linear(24, 5), standardise=False),
    "no bias": chain(nn.Linear(24, 5, bias=False)),
    "batch norm before the non-linearity": chain(nn.Linear(24, 7), norm(7), nn.ReLU(), nn.Linear(7, 5)),
    "batch norm after it": chain(nn.Linear(24, 7), nn.Tanh(), norm(7), nn.Dropout(), nn.Linear(7, 5, bias=False)),
    "batch norm without weights": chain(nn.Linear(24, 7), nn.Tanh(), norm(7, affine=False), nn.Linear(7, 5)),
    "batch norm on the pixels": chain(norm(24), nn.Linear(24, 5), standardise=False),
    "batch norm on the logits": chain(nn.Linear(24, 5), norm(5)),
    "two linear layers": chain(nn.Linear(24, 7), nn.Linear(7, 5)),
    "non-linear logits": chain(nn.Linear(24, 5), nn.Mish(), nn.LogSoftmax(dim=1)),
    "nested": chain(nn.Sequential(nn.Linear(24, 7), nn.Sequential(nn.Identity(), nn.SiLU())), nn.Linear(7, 5)),
    "behind contrast": nn.Sequential(Contrast(0.3), chain(nn.Linear(24, 7), nn.ReLU(), nn.Linear(7, 5))).eval(),
    "in place": chain(nn.Linear(24, 7), nn.ReLU(inplace=True), nn.Linear(7, 5)),
}


@pytest.mark.parametrize("name", FOLDABLE)
def test_folding_changes_nothing(name: str) -> None:
    model = FOLDABLE[name]
    folded = fold(model)
    assert folded is not None
    assert torch.allclose(folded(IMAGES), model(IMAGES), atol=1e-5)


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_every_non_linearity_folds(kind: type[nn.Module]) -> None:
    model = chain(nn.Linear(24, 7), kind(), norm(7), nn.Linear(7, 5))
    folded = fold(model)
    assert folded is not None
    assert torch.allclose(folded(IMAGES), model(IMAGES), atol=1e-5)


@pytest.mark.parametrize("output", ["logits", "mish-log-softmax"])
def test_the_thesis_classifier_folds(output: str) -> None:
    torch.manual_seed(0)
    model = MLP((2, 3, 4), (20, 10), mean=(0.1, 0.2), std=(0.3, 0.4), output=output).eval()
    folded = fold(model)
    assert folded is not None
    assert torch.allclose(folded(IMAGES), model(IMAGES), atol=1e-5)


def test_one_mean_serves_all_channels() -> None:
    model = nn.Sequential(Standardise(), nn.Flatten(), nn.Linear(24, 5)).eval()
    folded = fold(model)
    assert folded is not None
    assert torch.allclose(folded(IMAGES), model(IMAGES), atol=1e-5)


def test_the_weights_are_those_of_the_moment_and_stay_untouched() -> None:
    model = chain(nn.Linear(24, 7), norm(7), nn.Mish(), nn.Linear(7, 5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = fold(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        model[2].weight.mul_(2)
    second = fold(model)
    assert first is not None
    assert second is not None
    assert torch.allclose(second(IMAGES), model(IMAGES), atol=1e-5)
    assert not torch.allclose(first(IMAGES), second(IMAGES), atol=1e-2)


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Reversed(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flip(1))


def hooked() -> nn.Sequential:
    model = chain(nn.Linear(24, 5))
    model[2].register_forward_hook(lambda module, args, output: 2 * output)
    return model


def hooked_as_a_whole() -> nn.Sequential:
    model = chain(nn.Linear(24, 5))
    model.register_forward_pre_hook(lambda module, args: (args[0] / 2,))
    return model


NOT_FOLDABLE: dict[str, object] = {
    "function": lambda x: x.flatten(1),
    "convolution": nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(4, 5)).eval(),
    "no flatten": nn.Sequential(nn.Linear(4, 5)).eval(),
    "no linear": chain(nn.ReLU()),
    "flatten all": nn.Sequential(nn.Flatten(0), nn.Linear(24, 5)).eval(),
    "standardise after flatten": nn.Sequential(nn.Flatten(), Standardise(), nn.Linear(24, 5)).eval(),
    "batch norm in train mode": chain(nn.Linear(24, 7), norm(7), nn.Linear(7, 5)).train(),
    "dropout in train mode": nn.Sequential(nn.Flatten(), nn.Linear(24, 7), nn.Dropout(), nn.Linear(7, 5)).train(),
    "batch norm of the batch": chain(nn.Linear(24, 7), norm(7, track_running_stats=False), nn.Linear(7, 5)),
    "two non-linearities": chain(nn.Linear(24, 7), nn.ReLU(), nn.Tanh(), nn.Linear(7, 5)),
    "norm between non-linearities": chain(nn.Linear(24, 7), nn.ReLU(), norm(7), nn.Tanh(), nn.Linear(7, 5)),
    "softmax inside": chain(nn.Linear(24, 7), nn.LogSoftmax(dim=1), nn.Linear(7, 5)),
    "softmax over images": chain(nn.Linear(24, 5), nn.LogSoftmax(dim=0)),
    "double precision": chain(nn.Linear(24, 5)).double(),
    "subclass": chain(Doubled(24, 5)),
    "chain of one's own": Reversed(OrderedDict(flatten=nn.Flatten(), linear=nn.Linear(24, 5))).eval(),
    "hooked layer": hooked(),
    "hooked chain": hooked_as_a_whole(),
    "parametrised": chain(nn.utils.parametrizations.weight_norm(nn.Linear(24, 5))),
}


@pytest.mark.parametrize("name", NOT_FOLDABLE)
def test_anything_else_does_not_fold(name: str) -> None:
    assert fold(NOT_FOLDABLE[name]) is None
