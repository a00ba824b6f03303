"""Where an attack may begin: the images of other classes that lie nearest.

    s_i(x) = P(n_i(x))

    n_i     the i-th nearest image, in L2, whose class is not that of x
    P       projection into the budget's ball

A random point of an L2 ball is faint noise everywhere, which networks that were hardened in Linf threshold away; their
gradients around x then lead to few of the mistakes that lie on the way to another image.

Sources: attacks that begin at images of other classes are in W. Brendel, J. Rauber and M. Bethge, "Decision-based
adversarial attacks", ICLR 2018; the thresholds in L. Schott et al., "Towards the first adversarially robust neural
network model on MNIST", ICLR 2019.
"""

from __future__ import annotations

import torch

from carso.types import Images, Labels

MOST, VALUES = 10_000, 2**28
"""Images at most among which neighbours are sought, and values of theirs."""


class Neighbours:
    """Images whose classes are known.

    Args:
        images: (n, C, H, W) on the CPU; of more than are sought among, some are used, evenly spaced.
        labels: their classes (n,), likewise.
    """

    def __init__(self, images: Images, labels: Labels) -> None:
        every = spacing(len(labels), images[0].numel())
        self.images, self.labels = images[::every], labels[::every]

    @property
    def ranks(self) -> int:
        """How many neighbours an image has, whatever its class; 0 if there is but one class."""
        return len(self.labels) - int(self.labels.bincount().max())

    def nearest(self, images: Images, labels: Labels, rank: int) -> Images:
        """The neighbours (B, C, H, W) of images (B, C, H, W) at a rank, counted from 0 by growing distance."""
        distances = torch.cdist(images.cpu().flatten(1), self.images.flatten(1))
        distances[labels.cpu()[:, None] == self.labels] = torch.inf
        chosen = distances.topk(rank + 1, largest=False).indices[:, rank]
        return self.images[chosen].to(images)


def most_of(values: int) -> int:
    """How many images, of so many values each, are used at most; at least 1."""
    return max(1, min(MOST, VALUES // values))


def spacing(images: int, values: int) -> int:
    """One in how many images, of so many values each, is used."""
    return max(-(-images // MOST), -(-images * values // VALUES))
