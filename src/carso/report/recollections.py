"""What a defence recalls of a few images, and how it votes: to be looked at, in a notebook above all.

    z_k ~ N(0, I), k = 1..K        the latents of one seed, those that vote
    x_ik = D(z_k, c_i)             shown for the first of them

Source: thesis, section 3.2.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from carso.report import charts, pictures
from carso.report.page import render
from carso.types import Candidates, Images, Labels

if TYPE_CHECKING:
    from markupsafe import Markup

    from carso.defence import CARSO
    from carso.vote import Tally


@dataclass(frozen=True, repr=False)
class Recollections:
    """Images, the first candidates recalled of each, and the vote of all.

    Attributes:
        images: (B, C, H, W) in [0, 1].
        candidates: (B, k, C, H, W) in (0, 1), of the first k latents that vote.
        tally: votes per class and samples used.
        labels: the classes (B,) that the defence elects, by its own aggregation.
        names: what it calls the classes; None if it has no names for them.
    """

    images: Images
    candidates: Candidates
    tally: Tally
    labels: Labels
    names: tuple[str, ...] | None = None

    @property
    def mean(self) -> Images:
        """The mean (B, C, H, W) of the candidates."""
        return self.candidates.mean(1)

    def __repr__(self) -> str:
        elected = [self.called(label) for label in self.labels.tolist()]
        return f"{len(elected)} images, {self.candidates.shape[1]} recollections each, elected {', '.join(elected)}"

    def called(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.names[label] if self.names else f"{label}"

    def _repr_html_(self) -> str:
        return html_of(self)


def show(defence: CARSO, images: Images, samples: int = 6, seed: int = 0) -> Recollections:
    """Recall images and put them to the vote.

    Args:
        defence: whose vote it is.
        images: (B, C, H, W) in [0, 1].
        samples: candidates to keep, at most the defence's own number.
        seed: of the latents.

    Raises:
        DataError: if the images are not what the defence takes.
        ValueError: if samples is not between 1 and the defence's own number.
    """
    if not 1 <= samples <= defence.samples:
        raise ValueError(f"samples must be between 1 and {defence.samples}, not {samples}")
    labels, tally = defence.elect(images, seed=seed)
    latents = defence.latents(generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        candidates = defence.recall(images, latents=latents[:samples])
    return Recollections(images, candidates, tally, labels, defence.class_names)


def html_of(shown: Recollections) -> str:
    """A row per image: itself, what is recalled, the mean, and the shares of the vote as bars."""
    rows = [
        {
            "image": pictures.picture(shown.images[i].cpu()),
            "candidates": pictures.strip(shown.candidates[i].cpu()),
            "mean": pictures.picture(shown.mean[i].cpu()),
            "winner": shown.called(int(shown.labels[i])),
            "votes": int(shown.tally.samples[i]),
            "chart": _vote(shown, shown.tally.shares[i].tolist(), int(shown.labels[i])),
        }
        for i in range(len(shown.images))
    ]
    return render("inline_recollections.html", {"rows": rows, "shown": shown.candidates.shape[1]})


def _vote(shown: Recollections, shares: list[float], elected: int) -> Markup:
    title = f"Vote shares; class {shown.called(elected)} is elected with {shares[elected]:.0%}"
    return charts.votes(title, shares, [shown.called(label) for label in range(len(shares))], elected)
