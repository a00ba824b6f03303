"""Contrast: greys are spread, and what is black or white stays so under any small change.

    u = (x - eps) / (1 - 2 eps),    y = clamp(u, 0, 1),    dy/du taken for 1 wherever u is

A pixel of 0 or 1 that is moved by at most eps comes out as it was; what lies between is moved the further, by up to
1 / (1 - 2 eps) times as much. For ink on paper that is the better part of robustness in Linf, and first layers of
networks that are trained against attacks on digits come to it by themselves.

The clamp's own gradient is zero where it holds, and an attacker who follows it is stuck there: PGD then finds less than
there is to be found. So the gradient passes by, as an attacker who knows of the clamp would have it.

Source: A. Madry et al., Towards deep learning models resistant to adversarial attacks, ICLR 2018, appendix C, on the
filters that adversarial training finds; A. Athalye, N. Carlini and D. Wagner, Obfuscated gradients give a false sense
of security, ICML 2018, on passing gradients by.
"""

from __future__ import annotations

from torch import Tensor, nn

from carso.types import Images


class Contrast(nn.Module):
    """Spreads what lies between eps and 1 - eps over [0, 1].

    Args:
        eps: in [0, 0.5).

    Raises:
        ValueError: if eps lies elsewhere.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        if not 0 <= eps < 0.5:
            raise ValueError(f"contrast must be in [0, 0.5), not {eps}")
        self.eps = eps

    @property
    def slope(self) -> float:
        """What the gradient is taken for, 1 / (1 - 2 eps)."""
        return 1 / (1 - 2 * self.eps)

    def forward(self, images: Images) -> Images:
        """Images (B, C, H, W) in [0, 1], of any contrast, to the same of more."""
        return self.spread(images)

    def spread(self, pixels: Tensor) -> Tensor:
        """The same of pixels in any shape."""
        spread = (pixels - self.eps) * self.slope
        return spread + (spread.clamp(0, 1) - spread).detach()

    def extra_repr(self) -> str:
        """What a printed module says of it."""
        return f"eps={self.eps}"
