from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from tests.test_correction import IMAGES, LAYERS, defence
from torch import nn

from carso import CARSO
from carso.fast import faster, full_precision
from carso.fast.corrected import CorrectedDefence, correct_defence


@pytest.fixture(autouse=True)
def untyped() -> Iterator[None]:
    """Without the checks of types, in which a graph cannot be traced: as users run it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def trained() -> CARSO:
    some = defence()
    nn.init.normal_(some.purifier.decoder[0].last.weight, std=0.1)
    return some


def test_the_form_answers_as_the_defence_does() -> None:
    some = trained()
    found = correct_defence(some.classifier, some.purifier, LAYERS, IMAGES)
    assert found is not None
    exact, _, batch = found
    assert batch >= 8
    shared, own = torch.randn(3, 4), torch.randn(4, 2, 4)
    torch.testing.assert_close(exact(IMAGES, shared), some.logits(IMAGES, latents=shared), atol=1e-4, rtol=1e-4)
    one_by_one = [some.logits(IMAGES[i : i + 1], latents=z) for i, z in enumerate(own)]
    torch.testing.assert_close(exact(IMAGES, own), torch.cat(one_by_one), atol=1e-4, rtol=1e-4)


def test_gradients_are_the_defence_s_and_weights_get_none() -> None:
    some = trained()
    with full_precision():
        quick = faster(some, IMAGES)
        assert isinstance(quick.folded, CorrectedDefence)
        slopes = []
        for model in (quick, some):
            images = IMAGES.clone().requires_grad_(True)
            model.surrogate(images, 4, generator=torch.Generator().manual_seed(1))[:, 0].sum().backward()
            slopes.append(images.grad)
    torch.testing.assert_close(*slopes, atol=1e-5, rtol=1e-3)
    assert all(p.grad is None for p in quick.folded.purifier.parameters())


def test_a_hooked_purifier_has_no_form() -> None:
    some = trained()
    some.purifier.decoder[0].register_forward_hook(lambda *_: None)
    assert correct_defence(some.classifier, some.purifier, LAYERS, IMAGES) is None
