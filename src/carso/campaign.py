"""One attack on a saved defence, directed at its classifier or at the whole of it."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Literal

import torch

from carso import data
from carso.attacks import ATTACKS
from carso.checks import check_suits
from carso.defence import CARSO
from carso.errors import CarsoError
from carso.evaluation.columns import answer, exposed
from carso.evaluation.crafting import Crafting
from carso.evaluation.interval import wilson
from carso.evaluation.protocol import Row
from carso.evaluation.streams import stream
from carso.files import check_writable
from carso.progress import track
from carso.types import Budget, Norm

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
    if not 0 < eps < math.inf:
        raise CarsoError(f"--eps must be a positive number, not {eps:g}")
    if out is not None:
        check_writable(out)
    test = data.load(data_name, "test")[:images]
    check_suits(test, defence.purifier.shape, defence.classes)
    row = Row(method, Budget(norm, eps), directed_at=directed_at)
    target, crafting = exposed(defence, directed_at), Crafting(seed)
    spans = [slice(start, start + CHUNK) for start in range(0, len(test), CHUNK)]
    attacked = torch.cat(
        [
            crafting(row, target, test.images[span], test.required_labels[span], span.start)
            for span in track(spans, f"{method} on the {directed_at}")
        ]
    )
    columns = {"classifier": defence.classifier, "defence": defence}
    answers = {name: answer(column, attacked, stream(seed, "vote")).predicted for name, column in columns.items()}
    correct = {name: int(found.eq(test.required_labels).sum()) for name, found in answers.items()}
    print(f"{method} {Budget(norm, eps)} directed at the {directed_at}, n = {len(test)}, seed {seed}")
    for name, right in correct.items():
        low, high = wilson(right, len(test))
        print(f"  {name:<10} {100 * right / len(test):6.2f} % right  [{low:.2f}, {high:.2f}]")
    if out is not None:
        data.save_pairs(out, attacked, test.images, test.labels)
        print(f"  pairs kept in {out}")
    return correct
