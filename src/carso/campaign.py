"""One attack on a saved defence, directed at its classifier or at the whole of it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

import torch

from carso import data
from carso.attacks import ATTACKS
from carso.defence import CARSO
from carso.errors import CarsoError
from carso.evaluation.interval import wilson
from carso.nn.modes import evaluating
from carso.progress import track
from carso.types import Budget, Classifier, Norm

CHUNK = 500


def attack(
    defence: CARSO,
    method: str,
    *,
    eps: float,
    norm: Norm = "Linf",
    directed_at: Literal["classifier", "defence"] = "classifier",
    data_name: str = "mnist",
    images: int = 1000,
    seed: int = 0,
    out: Path | None = None,
) -> dict[str, int]:
    """Attack the first test images, print what is still right, and return the correct answers of each.

    Args:
        defence: whose classifier, or the whole of which, is attacked.
        method: a name in `carso.attacks.ATTACKS`.
        eps: radius of the ball, for pixels in [0, 1].
        norm: of the ball.
        directed_at: "classifier" attacks N, "defence" the surrogate of the whole.
        data_name: of the data set.
        images: how many, from the first.
        seed: of attack and latents.
        out: where to keep the (attacked, clean) pairs.

    Raises:
        CarsoError: if there is no such attack, or eps is not a positive number.
    """
    if method not in ATTACKS:
        near = difflib.get_close_matches(method, ATTACKS, n=1)
        raise CarsoError(
            f"no attack {method!r}{f'; did you mean {near[0]!r}?' if near else ''}; known: {', '.join(ATTACKS)}"
        )
    if not eps > 0:
        raise CarsoError(f"--eps must be a positive number, not {eps:g}")
    test = data.load(data_name, "test")[:images]
    target: Classifier = defence.classifier if directed_at == "classifier" else defence.surrogate
    generator = torch.Generator().manual_seed(seed)
    attacked = torch.cat(
        [
            ATTACKS[method](
                target, test.images[rows], test.required_labels[rows], Budget(norm, eps), generator=generator
            )
            for rows in track(
                [slice(i, i + CHUNK) for i in range(0, len(test), CHUNK)], f"{method} on the {directed_at}"
            )
        ]
    )
    with torch.no_grad(), evaluating(defence.classifier):
        answers = {
            "classifier": defence.classifier(attacked).argmax(1),
            "defence": defence.predict(attacked, generator),
        }
    correct = {name: int((answer == test.labels).sum()) for name, answer in answers.items()}
    print(f"{method} {Budget(norm, eps)} directed at the {directed_at}, n = {len(test)}, seed {seed}")
    for name, right in correct.items():
        low, high = wilson(right, len(test))
        print(f"  {name:<10} {100 * right / len(test):6.2f} % right  [{low:.2f}, {high:.2f}]")
    if out is not None:
        data.save_pairs(out, attacked, test.images, test.labels)
        print(f"  pairs kept in {out}")
    return correct
