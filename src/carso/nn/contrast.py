"""Contrast: greys are spread, and what is black or white stays so under any small change.

    y = clamp((x - eps) / (1 - 2 eps), 0, 1)

A pixel of 0 or 1 that is moved by at most eps comes out as it was; what lies between is moved the further, by up to
1 / (1 - 2 eps) times as much. For ink on paper that is the better part of robustness in Linf, and first layers of
networks that are trained against attacks on digits come to it by themselves.

Source: A. Madry et al., Towards deep learning models resistant to adversarial attacks, ICLR 2018, appendix C, on the
filters that adversarial training finds.
"""

from __future__ import annotations

from torch import nn

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

    def forward(self, images: Images) -> Images:
        """Images (B, C, H, W) in [0, 1], of any contrast, to the same of more."""
        return ((images - self.eps) / (1 - 2 * self.eps)).clamp(0, 1)

    def extra_repr(self) -> str:
        """What a printed module says of it."""
        return f"eps={self.eps}"
