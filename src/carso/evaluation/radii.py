"""Which radii a defence is attacked at: those that it was trained for, as its own recipe says.

thesis's work    its data are MNIST's, and its trainings used a radius of the thesis's, or no attack: the thesis's rows
other work       the radii that N was trained for, where it was, else those of all trainings: a purifier's may lie
                 beyond what the defence is meant for; a single one is joined by its half
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from carso.attacks.budget import across
from carso.errors import CarsoError
from carso.evaluation.protocol import END_TO_END, Protocol, Row, protocol_at
from carso.progress import note
from carso.storage.headers import Origin, OwnAttack
from carso.types import Norm, spelled

RADII = tuple(row.eps for row in END_TO_END)
"""The thesis's foreseen radii, 0.15 and 0.30."""

KIN = {"fgsm": "fgsm", "n-fgsm": "fgsm", "pgd": "pgd", "annealed": "pgd"}
"""Attacks of trainings, and the attack of the table that is foreseen by each."""

LEVELS = 255
"""Of a byte, for which a radius above 1 in Linf may have been meant."""


def check_radii(radii: Sequence[float], norm: Norm, shape: Sequence[int] | None = None) -> None:
    """Hold radii to what an attack on images in [0, 1] can use.

    Args:
        radii: of the balls.
        norm: of them.
        shape: (C, H, W) of the images, which says how far they lie apart in L2 and L1; None where it is not known yet.

    Raises:
        CarsoError: naming a radius that is no number or not above 0, or above the distance of black from white.
    """
    anything = shape is None and norm != "Linf"
    most = math.inf if anything else across(math.prod(shape or ()), norm)
    for radius in radii:
        if isinstance(radius, str):
            raise CarsoError(f"eps must be a number, such as 8 / 255, not {radius!r}")
        if not (0 < radius <= most and math.isfinite(radius)):
            within = "be a positive number" if anything else f"lie in (0, {most:g}] for {norm}"
            meant = f"; did you mean {radius:g}/255?" if norm == "Linf" and 1 < radius <= LEVELS else ""
            raise CarsoError(f"eps must {within}, not {radius:g}: images are in [0, 1]{meant}")


def is_thesis(origin: Origin, data: str) -> bool:
    """Whether a defence is the thesis's work and evaluated on its data."""
    radii = {(attack.norm, attack.eps) for attack in origin.attacks}
    own = {("Linf", eps) for eps in RADII}
    return data == "mnist" and origin.data in (None, "mnist") and (not radii or bool(radii & own))


def norm_of(origin: Origin) -> Norm:
    """The norm of the first attack of its trainings; Linf if there is none."""
    return next((attack.norm for attack in origin.attacks), "Linf")


def trained_for(origin: Origin, norm: Norm) -> tuple[float, ...]:
    """The radii that N was trained for in a norm, else those of all trainings, ascending; none where none is known."""
    attacks = _followed(origin.own_attacks, norm) or _followed(origin.attacks, norm)
    return tuple(sorted({attack.eps for attack in attacks}))


def radii_of(origin: Origin, data: str, norm: Norm | None = None) -> tuple[float, ...]:
    """The radii that a defence is attacked at if nobody says; those of the thesis if none is known, which is said.

    Args:
        origin: its recipe.
        data: the name of the data set of the evaluation.
        norm: of the balls, by default that of the recipe's attacks.

    Raises:
        CarsoError: if all that are known are of another norm, or none is and it is not that of the thesis's.
    """
    norm = norm or norm_of(origin)
    own = trained_for(origin, norm)
    if norm == "Linf" and is_thesis(origin, data):
        return RADII
    if not own and not norm == norm_of(origin) == "Linf":
        raise CarsoError(f"--norm {norm}: nothing was trained for it, so that --eps must say how far an attack may go")
    if not own:
        note(f"the recipe names no radius: {', '.join(map(spelled, RADII))} are taken; --eps 8/255 says others")
        return RADII
    return own if len(own) > 1 else (own[0] / 2, own[0])


def protocol_of(origin: Origin, data: str, radii: tuple[float, ...] = (), norm: Norm | None = None) -> Protocol:
    """What a defence is evaluated under.

    Args:
        origin: its recipe.
        data: the name of the data set of the evaluation.
        radii: of the rows; by default the thesis's table for the thesis's work, and the recipe's own for other work.
        norm: of the balls, by default that of the recipe's attacks.
    """
    norm = norm or norm_of(origin)
    used = _followed(origin.attacks, norm)
    foreseen = {("pgd-eot" if attack.directed_at == "defence" else KIN[attack.attack], attack.eps) for attack in used}
    if not radii and norm == "Linf" and is_thesis(origin, data):
        return _thesis(foreseen) if origin.attacks else Protocol()
    return protocol_at(radii or radii_of(origin, data, norm), norm, foreseen)


def _thesis(foreseen: set[tuple[str, float]]) -> Protocol:
    """The thesis's rows, with what a training other than the thesis's has foreseen."""
    rows = Protocol().rows
    return Protocol(rows=tuple(row if row.norm is None else _known(row, foreseen) for row in rows))


def _known(row: Row, foreseen: set[tuple[str, float]]) -> Row:
    return replace(row, foreseen=row.norm == "Linf" and (row.attack, row.eps) in foreseen)


def _followed(attacks: Sequence[OwnAttack], norm: Norm) -> list[OwnAttack]:
    """The attacks in that norm that follow a gradient."""
    return [attack for attack in attacks if attack.attack in KIN and attack.norm == norm]
