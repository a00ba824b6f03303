"""Other models on which images are crafted that are then tried on the target; tried themselves before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from carso.audit.surface import beyond, checked, differentiable
from carso.audit.target import Target
from carso.data import Dataset
from carso.data.labelled import matched, names_of
from carso.errors import ModelError
from carso.nn.chance import pinned
from carso.types import Classifier, Images, Logits


@pinned(0)
def transfers(
    target: Target, given: Dataset, dataset: Dataset, models: Mapping[str, Classifier]
) -> dict[str, Classifier]:
    """The models by name, each with its classes numbered as the target's; first the target's own classifier, if any.

    Args:
        target: what is audited.
        given: labelled images.
        dataset: the same, labelled as the target numbers its classes.
        models: images to logits.

    Raises:
        ModelError: if one of them breaks the contract, or has no gradient.
        DataError: if one of them does not know the classes of the images.
    """
    found = {} if target.classifier is None else {"classifier": target.classifier}
    few = dataset[:2].images.to(target.device)
    for name, model in models.items():
        called = f"transfer {name}"
        classes = checked(model, few, called).shape[1]
        theirs = matched(replace(given, name=f"{given.name}, for {called}"), classes, names_of(model))
        numbers = dict(zip(dataset.required_labels.tolist(), theirs.required_labels.tolist(), strict=True))
        usable = differentiable(model, few, called, classes)
        if usable is None:
            raise ModelError(f"{called} has no gradient, along which images could be crafted; leave it out")
        alike = all(ours == other for ours, other in numbers.items())
        found[name] = usable if alike else Renumbered(usable, [numbers.get(k, -1) for k in range(target.classes)])
    return found


@dataclass(frozen=True)
class Renumbered:
    """A model whose classes are numbered as another's.

    Args:
        model: images to logits.
        numbers: which class of the model each of the other's is; -1 if none, whose logit is then the lowest.
    """

    model: Classifier
    numbers: Sequence[int]

    def __call__(self, images: Images) -> Logits:
        """Logits (B, classes) in the other's order."""
        logits = self.model(images)
        return torch.cat([logits, -beyond(logits)], dim=1)[:, list(self.numbers)]
