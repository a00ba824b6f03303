from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from carso import CARSO
from carso.commands.shared import Subject
from carso.nn import MLP
from carso.purifier import Purifier
from carso.storage.headers import Origin

N = MLP((1, 4, 4), (8,), 3)
DEFENCE = CARSO(N, Purifier((1, 4, 4), 11, latent=2))


class Headed(nn.Module):
    """A network that calls its last layer as torchvision's do."""

    def __init__(self, *parts: str) -> None:
        super().__init__()
        self.classifier = nn.Linear(16, 3)
        for part in parts:
            setattr(self, part, nn.Identity())


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (N, lambda model: model),
        (DEFENCE, lambda model: model.classifier),
        (Headed(), lambda model: model),
        (Headed("recall"), lambda model: model),
        (Headed("purify"), lambda model: model.classifier),
    ],
)
def test_a_part_that_is_called_classifier_labels_images_only_behind_a_purifier(model: nn.Module, labels: Any) -> None:
    assert Subject("it", model, None, Origin(), "mnist", {}).classifier is labels(model)
