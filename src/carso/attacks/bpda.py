"""BPDA: backward pass differentiable approximation, the purifier taken for the identity.

    forward     f(g(x))
    backward    grad_x ~ grad_u f(u) at u = g(x)

    g    a purifier: images to images of the same shape, with no gradient or none worth having
    f    the classifier behind it

Source: A. Athalye, N. Carlini and D. Wagner, "Obfuscated gradients give a false sense of security: circumventing
defenses to adversarial examples", ICML 2018, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from carso.errors import ModelError
from carso.nn.querying import query
from carso.types import Classifier, Images


def straight_through(purify: Callable[[Tensor], Tensor], classifier: Classifier) -> Classifier:
    """classifier(purify(images)) whose gradient passes the purifier by.

    Args:
        purify: images (B, C, H, W) to images of the same shape.
        classifier: images to logits, differentiable.

    Raises:
        ModelError: on the first call, if the purified images have another shape.
    """

    def model(images: Images) -> Tensor:
        with torch.no_grad():
            purified = query(purify, images)
        if purified.shape != images.shape:
            shapes = f"{tuple(images.shape)} into {tuple(purified.shape)}"
            raise ModelError(f"BPDA takes the purifier for the identity, but it turns {shapes}")
        return query(classifier, purified + (images - images.detach()))

    return model
