"""`carso demo`: load a defence, then serve its page."""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carso.commands.options import MNIST, AllowHost, Channels, Data, Defence, Factory, Samples, Size, SkipBad, fitting
from carso.commands.shared import check_web, classifier_of, images_of, lets_others_in, listen, say, say_which, voting_by
from carso.errors import DataError, RunError

if TYPE_CHECKING:
    from torch import nn

    from carso.data import Dataset
    from carso.defence import CARSO
    from carso.demo.studio import Studio
    from carso.storage.headers import Origin
    from carso.types import Norm


def demo(
    defence: Defence = "mnist",
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback let others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 7860,
    allow_host: AllowHost = None,
    data: Data = None,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    factory: Factory = None,
    size: Size = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
    samples: Samples = None,
) -> None:
    """Draw an image, attack it, watch the vote, in the browser.

    Or pick one; what the defence recalls is shown with its votes.
    """
    check_web("the demo", "carso[demo]")
    studio = studio_of(defence, data, classifier_of(factory), fitting(size, channels, skip_bad), samples)
    run(studio, host, port, show, allow_host or [])


def studio_of(
    source: str,
    data_name: str | None,
    classifier: nn.Module | None = None,
    fitted: Mapping[str, Any] | None = None,
    samples: int | None = None,
) -> Studio:
    """A saved defence and what the page needs beside it."""
    from carso.demo.studio import Studio
    from carso.storage import weights

    say_which(source)
    defence = voting_by(samples, weights.load(source, classifier))
    own = weights.origin(source)
    name, fitted = images_of(own, data_name or at_hand(own.data), fitted or {})
    images = matching(defence, name, fitted, asked=data_name is not None)
    undefended = weights.load_undefended(source, classifier)
    return Studio(defence, undefended, images, Path(source).resolve().name, own.against_attacks, usual(own))


def usual(own: Origin) -> dict[Norm, float]:
    """The largest radius that the defence is meant for, in the norms of the page; none where its recipe says none."""
    from carso.evaluation.radii import trained_for

    norms: tuple[Norm, ...] = ("Linf", "L2")
    return {norm: radii[-1] for norm in norms if (radii := trained_for(own, norm))}


def at_hand(name: str | None) -> str:
    """The data set of a recipe if it is one by name, or a folder that is here; else MNIST."""
    from carso import data

    return name if name and (data.is_name(name) or os.path.exists(name)) else MNIST


def run(studio: Studio, host: str, port: int, show: bool, others: Sequence[str] = ()) -> None:
    """Serve the page until interrupted, to those who ask for it by `host`, a name of loopback, or one of the `others`.

    Raises:
        DataError: if the port is taken.
    """
    listener, address = listen(host, port)
    from carso.demo.server import serve

    say(f"the demo of {studio.name} is at {address}; Ctrl-C ends it")
    if lets_others_in(listener):
        names = ", ".join(["localhost", host, *others])
        say(f"warning: whoever reaches {host} can use this machine's processor through the demo, without a password;")
        say(f"    it answers as {names} only (--allow-host NAME adds one)")
    if show:
        Timer(0.5, webbrowser.open, (address,)).start()
    serve(studio, listener, [host, *others])


def matching(defence: CARSO, name: str, fitted: Mapping[str, Any] | None = None, asked: bool = False) -> Dataset | None:
    """The test images of a data set as the defence numbers and names its classes; None if they are not its own,
    or not to be had.

    Raises:
        DataError: if they are not its own, or not to be had, though they were `asked` for.
        RunError: if they were, and what was fetched cannot be kept.
    """
    from carso import data
    from carso.data.labelled import check_shape, matched

    try:
        images = data.load(name, "test", **(fitted or {}))
        check_shape(images, defence.purifier.shape)
        own = defence.class_names
        if not asked and own and images.labels is not None and {*own}.isdisjoint(images.classes):
            raise DataError(f"{name}: its classes are not called as the defence's")
        return matched(images, defence.classes, defence.class_names)
    except (DataError, RunError) as error:
        if asked:
            raise
        say(f"{error}; the page offers no test images, --data names others")
        return None
