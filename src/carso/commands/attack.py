"""`carso attack`: one attack on a saved defence, directed at its classifier or at the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from carso.commands import completion
from carso.commands.options import (
    MOST,
    Channels,
    Data,
    Defence,
    Device,
    Factory,
    OfBalls,
    Samples,
    Size,
    SkipBad,
    fitting,
    radius,
)
from carso.commands.shared import defence_of, images_of
from carso.errors import CarsoError, did_you_mean

if TYPE_CHECKING:
    from carso.defence import CARSO
    from carso.evaluation.protocol import Row
    from carso.evaluation.results import Rate


def attack(
    defence: Defence = "mnist",
    method: Annotated[
        str,
        typer.Option(
            "--attack", help="fgsm, pgd, deepfool, ...", autocompletion=completion.of(lambda: completion.ATTACKS)
        ),
    ] = "pgd",
    eps: Annotated[
        list[float] | None,
        typer.Option(
            parser=radius,
            metavar="NUMBER",
            help="Radius of the ball, on pixels in [0, 1]: 0.3, 8/255. [default: the largest of the training]",
        ),
    ] = None,
    norm: OfBalls = None,
    directed_at: Annotated[
        Literal["classifier", "defence"], typer.Option(help="What the attacker sees.")
    ] = "classifier",
    data: Data = None,
    images: Annotated[int, typer.Option(min=1, help="How many images of the test split, from the first.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of the attack and the latents.")] = 0,
    samples: Samples = None,
    out: Annotated[Path | None, typer.Option(help="Keep the (attacked, clean) pairs in this .npz.")] = None,
    factory: Factory = None,
    size: Size = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
    device: Device = "auto",
) -> None:
    """Attack a defence's classifier, or the whole of it.

    Says what each still gets right.
    """
    from carso.evaluation.radii import norm_of, radii_of
    from carso.storage.weights import origin

    model, own = defence_of(defence, factory, samples, device), origin(defence)
    data, fitted = images_of(own, data, fitting(size, channels, skip_bad))
    if eps is not None and len(eps) > 1:
        raise CarsoError(f"--eps: an attack has one radius, not {len(eps)}; run it once for each")
    reach = eps[0] if eps else max(radii_of(own, data, norm))
    run(model, row_of(method, reach, norm or norm_of(own), directed_at), data, images, seed, out, fitted)


def row_of(
    method: str, eps: float, norm: Literal["Linf", "L2", "L1"], directed_at: Literal["classifier", "defence"]
) -> Row:
    """The attack as a row of a table.

    Raises:
        CarsoError: if there is no such attack, or images in [0, 1] cannot be moved by eps.
    """
    from carso.attacks import ATTACKS
    from carso.evaluation.protocol import Row
    from carso.evaluation.radii import check_radii
    from carso.types import Budget

    if method not in ATTACKS:
        raise CarsoError(f"no attack {method!r}{did_you_mean(method, ATTACKS)}; known: {', '.join(ATTACKS)}")
    check_radii((eps,), norm)
    return Row(method, Budget(norm, eps), directed_at=directed_at)


def run(
    defence: CARSO,
    row: Row,
    data_name: str = "mnist",
    images: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    fitted: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Rate]:
    """Attack the first test images, print what is still right, and keep the (attacked, clean) pairs in `out`.

    Returns:
        The rate of right answers of "classifier" and "defence".
    """
    from carso import data
    from carso.data.labelled import check_shape, matched, names_of
    from carso.evaluation.cost import say_if_long
    from carso.evaluation.labelling import labelled
    from carso.evaluation.radii import check_radii
    from carso.evaluation.single import attacked_images, rates
    from carso.storage.files import check_writable
    from carso.types import Budget

    if out is not None:
        check_writable(out, ".npz")
    test = data.load(data_name, "test", **fitted)
    check_shape(test, defence.purifier.shape)
    if isinstance(row.budget, Budget):
        check_radii((row.budget.eps,), row.budget.norm, test.shape)
    test = matched(labelled(test, defence.classifier, images), defence.classes, names_of(defence))
    test = test if images >= len(test) else test.in_turns()[:images]
    say_if_long(defence, test[:64].images, len(test))
    attacked = attacked_images(defence, test, row, seed)
    found = rates(defence, attacked, test.required_labels, seed)
    print(f"{row.attack} {row.budget} directed at the {row.directed_at}, n = {len(test)}, seed {seed}")
    for name, rate in found.items():
        low, high = rate.ci95
        print(f"  {name:<10} {rate.accuracy:6.2f} % right  [{low:.2f}, {high:.2f}]")
    if out is not None:
        data.save_pairs(out, attacked, test.images, test.labels)
        print(f"  pairs kept in {out}")
    return found
