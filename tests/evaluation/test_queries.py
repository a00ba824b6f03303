"""A model is handed its own copy of the images, in a dtype that it takes, and fails in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.errors import LONGEST, ModelError, of_memory
from carso.evaluation.models import Models, answer, fingerprint
from carso.evaluation.queries import attackable, checked_query, scores_of
from carso.nn import MLP

IMAGES = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))


class Writing(nn.Module):
    """Rounds its input in place."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.copy_((images * 2).round() / 2))
        return logits


@pytest.fixture
def model(columns: Models) -> nn.Module:
    chosen = columns["undefended"]
    assert isinstance(chosen, nn.Module)
    return chosen


def test_a_model_that_writes_into_its_input_writes_into_a_copy(model: nn.Module) -> None:
    images = IMAGES.clone()
    found = checked_query(Writing(model), images)
    assert torch.equal(images, IMAGES)
    assert torch.equal(found, model((IMAGES * 2).round() / 2))


def test_the_gradient_passes_the_copy(model: nn.Module) -> None:
    x, y = (IMAGES.clone().requires_grad_() for _ in range(2))
    (ours,) = torch.autograd.grad(checked_query(model, x).sum(), x)
    (theirs,) = torch.autograd.grad(model(y).sum(), y)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_dtype_is_queried_in_it(model: nn.Module, dtype: torch.dtype) -> None:
    scores = scores_of(model.to(dtype), IMAGES)
    assert scores.dtype == dtype
    assert torch.equal(scores, model(IMAGES.to(dtype)))
    surface = attackable(model, IMAGES)
    x = IMAGES.clone().requires_grad_()
    assert surface(x).dtype == torch.float32
    assert torch.autograd.grad(surface(x).sum(), x)[0].dtype == torch.float32


def test_a_module_is_queried_in_eval_mode_and_keeps_its_own(model: nn.Module) -> None:
    expected = model.eval()(IMAGES)
    assert torch.equal(checked_query(model.train(), IMAGES), expected)
    assert model.training


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("lost"), r"cannot run on images \(5, 1, 6, 6\) on cpu: KeyError: 'lost'$"),
        (AssertionError("two\nlines"), "AssertionError: two lines$"),
        (RuntimeError("long " * 200), r"RuntimeError: long .*…$"),
    ],
)
def test_whatever_fails_is_one_short_line(error: Exception, message: str) -> None:
    def failing(images: Tensor) -> Tensor:
        raise error

    with pytest.raises(ModelError, match=message) as caught:
        checked_query(failing, IMAGES)
    assert len(str(caught.value)) < LONGEST // 2 + 150
    with pytest.raises(ModelError, match=r"^mine cannot run"):
        checked_query(failing, IMAGES, "mine")


@pytest.mark.parametrize("size", [10**15, -1])
def test_memory_that_runs_out_is_not_the_models_fault(size: int) -> None:
    def hungry(images: Tensor) -> Tensor:
        if size < 0:
            raise MemoryError
        return torch.empty(size)

    with pytest.raises((MemoryError, RuntimeError)) as caught:
        checked_query(hungry, IMAGES)
    assert of_memory(caught.value)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda logits: (logits,), "must return a tensor of scores .* not tuple"),
        (lambda logits: logits[:2], r"of shape \(5, 4\), not \(2, 4\)"),
        (lambda logits: logits[:, :3], r"of shape \(5, 4\), not \(5, 3\)"),
    ],
)
def test_scores_have_a_row_per_image_and_a_column_per_class(broken: Any, message: str, model: nn.Module) -> None:
    with pytest.raises(ModelError, match=message):
        scores_of(lambda images: broken(model(images)), IMAGES, classes=4)


def test_what_folds_is_attacked_as_it_is(model: nn.Module) -> None:
    assert attackable(model, IMAGES) is model
    assert attackable(Writing(model), IMAGES) is not model


def test_a_column_that_writes_answers_on_a_copy(columns: Models) -> None:
    images, generator = IMAGES.clone(), torch.Generator()
    for column in (Writing(nn.Sequential(nn.Flatten(), nn.Linear(36, 4))), columns["carso"]):
        answer(column, images, generator)
        assert torch.equal(images, IMAGES)


def test_bfloat16_has_a_fingerprint() -> None:
    model = MLP((1, 6, 6), hidden=(3,)).bfloat16()
    assert fingerprint(model) == fingerprint(model) != fingerprint(model.half())
