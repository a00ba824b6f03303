"""One attack on a defence, directed at its classifier or at the whole of it, and what both still get right."""

from __future__ import annotations

import torch
from torch import Tensor

from carso.data import Dataset
from carso.defence import CARSO
from carso.evaluation.examples import AdversarialExamples
from carso.evaluation.models import Model, Outcome, answer, device_of, exposed
from carso.evaluation.protocol import Row
from carso.evaluation.results import Rate
from carso.evaluation.seeding import generator_of
from carso.progress import track
from carso.types import Images

CHUNK = 500
"""Images attacked at a time, at most."""


def attacked_images(defence: CARSO, dataset: Dataset, row: Row, seed: int) -> Images:
    """The images (N, C, H, W) of a labelled data set under a row's attack, crafted on what the row is directed at.

    They are attacked where the defence is, and come back to the CPU.
    """
    target, examples = exposed(defence, row.directed_at), AdversarialExamples(seed)
    spans, device = dataset.spans(CHUNK), device_of(defence)
    parts = [
        examples(row, target, images.to(device), dataset.required_labels[span].to(device), span.start).cpu()
        for span, images in track(
            zip(spans, dataset.batches(spans), strict=True), f"{row.attack} on the {row.directed_at}"
        )
    ]
    return torch.cat(parts)


def rates(defence: CARSO, images: Images, labels: Tensor, seed: int) -> dict[str, Rate]:
    """How often the bare classifier and the defence are right on these images, all under the same latents."""
    models = {"classifier": defence.classifier, "defence": defence}
    answers = {name: _answered(model, images, seed) for name, model in models.items()}
    return {name: Rate.of(int(found.eq(labels.cpu()).sum()), len(labels)) for name, found in answers.items()}


def _answered(model: Model, images: Images, seed: int) -> Tensor:
    """Its class (n,) of each image, asked of as many at a time as fit into memory."""
    parts, device = Dataset("attacked images", images).chunks(), device_of(model)
    return Outcome.join([answer(model, some.to(device), generator_of(seed, "vote")) for _, some in parts]).predicted
