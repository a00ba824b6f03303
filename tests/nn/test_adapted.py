from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from carso.contract import check_classifier
from carso.errors import ModelError
from carso.fast import faster
from carso.nn import Adapted, ResNet, query
from carso.nn.adapted import doubt_of_input

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Answer = namedtuple("Answer", ["features", "logits"])


class ModelOutput(OrderedDict[str, Tensor]):
    """As those of transformers are: its entries are its attributes too."""

    def __getattr__(self, name: str) -> Tensor:
        return self[name]


class Answering(nn.Module):
    def __init__(self, form: object) -> None:
        super().__init__()
        self.body, self.form = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), form

    def forward(self, images: Tensor) -> object:
        assert callable(self.form)
        return self.form(self.body(images))


@pytest.mark.parametrize(
    ("form", "output"),
    [
        (lambda z: z, "logits"),
        (lambda z: {"loss": None, "logits": z}, "logits"),
        (lambda z: {"scores": z, "logits": None}, "scores"),
        (lambda z: ModelOutput(logits=z), "logits"),
        (lambda z: SimpleNamespace(logits=z), "logits"),
        (lambda z: Answer(None, z), "logits"),
        (lambda z: (z, None), "logits"),
        (lambda z: [None, z], 1),
        (lambda z: (None, z), -1),
    ],
)
def test_the_logits_are_taken_out_of_any_answer(form: object, output: str | int) -> None:
    model = Answering(form)
    adapted = Adapted(model, output=output)
    assert torch.equal(adapted(IMAGES), model.body(IMAGES))
    assert check_classifier(adapted, (3, 8, 8)) == 5


@pytest.mark.parametrize(
    ("form", "output", "message"),
    [
        (lambda z: {"loss": z}, "logits", r"a dict with loss, has no tensor under output='logits'"),
        (lambda z: (z,), 2, r"a tuple, has no tensor under output=2"),
        (lambda z: SimpleNamespace(scores=z), "logits", "a SimpleNamespace, has no tensor"),
        (lambda z: None, "logits", "a NoneType"),
    ],
)
def test_an_answer_without_logits_is_described(form: object, output: str | int, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Adapted(Answering(form), output=output)(IMAGES)


@pytest.mark.parametrize("form", [lambda z: {"logits": z}, lambda z: (z,), lambda z: SimpleNamespace(logits=z)])
def test_a_model_that_needs_the_adapter_is_told_so(form: object) -> None:
    with pytest.raises(ModelError, match=r"not \w+; wrap it: carso.nn.Adapted\(model, output='logits'\)"):
        check_classifier(Answering(form), (3, 8, 8))


def test_normalisation_is_by_channel() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    adapted = Adapted(nn.Flatten(), mean, std)
    expected = (IMAGES - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(adapted(IMAGES), expected.flatten(1))


@pytest.mark.parametrize("kind", [list, torch.tensor, np.array])
def test_the_numbers_of_channels_come_in_any_sequence(kind: Callable[[Any], Any]) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    assert torch.equal(Adapted(nn.Flatten(), kind(mean), kind(std))(IMAGES), Adapted(nn.Flatten(), mean, std)(IMAGES))


@pytest.mark.whole
@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.5,), None),
        (None, (0.5,)),
        ((0.5,), (0.5, 0.5)),
        ((0.5,), (0.0,)),
        ((0.5,), (float("nan"),)),
        ((), ()),
        (0.5, 0.5),
        (torch.tensor(0.5), torch.tensor(0.5)),
        ([[0.5]], [[0.5]]),
        ("55", "55"),
    ],
)
def test_half_a_normalisation_is_refused(mean: Any, std: Any) -> None:
    with pytest.raises(ModelError, match="mean and std"):
        Adapted(nn.Flatten(), mean, std)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_model_gets_what_it_computes_in(dtype: torch.dtype) -> None:
    model = Answering(lambda z: (z,))
    expected = model.body((IMAGES - 0.5) / 0.25)
    found = query(Adapted(model.to(dtype), (0.5,) * 3, (0.25,) * 3), IMAGES)
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_the_fast_form_goes_through_it() -> None:
    torch.manual_seed(0)
    adapted = Adapted(ResNet((3, 8, 8), width=4, blocks=(1,)), (0.5,) * 3, (0.25,) * 3).eval()
    quick = faster(adapted, IMAGES)
    assert quick is not adapted
    torch.testing.assert_close(quick.exact(IMAGES), adapted(IMAGES), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("right", "total", "classes"), [(10, 100, 10), (19, 100, 10), (0, 5, 10), (55, 100, 2)])
def test_hardly_better_than_chance_is_doubted(right: int, total: int, classes: int) -> None:
    assert f"{right} of {total}" in (doubt_of_input(right, total, classes) or "")


@pytest.mark.parametrize(("right", "total", "classes"), [(20, 100, 10), (56, 100, 2), (2, 5, 10), (12, 100, 100)])
def test_better_than_chance_is_not(right: int, total: int, classes: int) -> None:
    assert doubt_of_input(right, total, classes) is None
