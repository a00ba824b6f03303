"""Test-time augmentation: the classifier votes over shifted and mirrored versions of the image.

    f_k(x) = #{i : argmax N(T_i(x)) = k} / K      T_i: a shift of at most s pixels each way, half of them mirrored, too

N: any classifier, best one that was trained on such versions (`crop` and `flip` of its recipe).

Sources: the votes, A. Krizhevsky, I. Sutskever and G. Hinton, ImageNet classification with deep convolutional neural
networks, NeurIPS 2012; as a defence, C. Xie et al., Mitigating adversarial effects through randomization, ICLR 2018.
"""

from __future__ import annotations

import torch
from torch import nn

from carso.nn.chance import home
from carso.rivals.votes import Voted
from carso.training.augment import shifted
from carso.types import Images


class Augmented(Voted):
    """Votes over shifts and mirror images.

    Args:
        classifier: N, images (B, C, H, W) in [0, 1] to logits (B, classes).
        samples: K.
        shift: s, pixels at most in each direction.
        flip: whether half of the versions are mirrored left to right.

    Raises:
        ValueError: if shift is negative, or samples less than 1.
    """

    def __init__(self, classifier: nn.Module, samples: int = 20, *, shift: int = 2, flip: bool = False) -> None:
        super().__init__(classifier, samples)
        if shift < 0:
            raise ValueError(f"shift must be at least 0 pixels, not {shift}")
        self.shift, self.flip = shift, flip

    def extra_repr(self) -> str:
        """What it does to an image."""
        return f"shift={self.shift}, flip={self.flip}, {super().extra_repr()}"

    def version(self, images: Images, generator: torch.Generator | None = None) -> Images:
        """All images, alike shifted and mirrored, differentiably."""
        drawn = torch.rand(3, generator=generator, device=home(generator, images.device))
        offsets = (drawn[:2] * (2 * self.shift + 1)).floor().long() - self.shift
        seen = shifted(images, offsets.to(images.device).unsqueeze(1).expand(2, len(images)), self.shift)
        return torch.where(self.flip & (drawn[2] < 0.5).to(images.device), seen.flip(3), seen)
