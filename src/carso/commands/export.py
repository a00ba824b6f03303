"""`carso export`: a defence or a classifier as one ONNX file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from carso.commands.options import MOST, Channels, Data, Factory, Samples, Size, SkipBad, Target, fitting
from carso.commands.shared import slug_of, subject_of
from carso.errors import CarsoError


def export(
    target: Target = "mnist",
    out: Annotated[Path | None, typer.Option(help="The ONNX file. [default: out/NAME[-classifier].onnx]")] = None,
    data: Data = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of the latents inside the file.")] = 0,
    samples: Samples = None,
    classifier: Annotated[bool, typer.Option("--classifier", help="Only the classifier, images to logits.")] = False,
    factory: Factory = None,
    size: Size = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
) -> None:
    """Write a defence or a classifier as one ONNX file.

    From images to votes, or to logits; proven on 32 images.
    """
    from carso.audit.loading import column_of, whole_of
    from carso.defence import CARSO
    from carso.storage.export import export

    whole = whole_of(target) if column_of(target) == "adversarially_trained" else None
    if samples is not None and (classifier or whole):
        raise CarsoError("--samples is for a defence that votes, which a classifier alone does not")
    fitted = fitting(size, channels, skip_bad)
    subject = subject_of(whole or target, factory, samples, "cpu", data, fitted)
    plain = whole is not None or not isinstance(subject.model, CARSO)
    name, slug = called(target), slug_of(placed(target))
    path = out or Path("out") / f"{slug}{'-classifier' * (classifier and not plain)}.onnx"
    trial = subject.load("test")[:32].images
    export(subject.model, path, trial, seed=seed, name=name, classifier_only=classifier or plain)
    what = "classifier" if classifier or plain else "defence"
    typer.echo(f"{path} answers in onnxruntime as the {what} does in torch, on {len(trial)} images")


def placed(target: str) -> str:
    """The target as seen from the working folder, however it is spelled; in full elsewhere; of that folder its name."""
    normal, here = Path(os.path.abspath(target)), Path(os.path.abspath("."))
    if normal == here:
        return here.name
    return str(normal.relative_to(here) if normal.is_relative_to(here) else normal)


def called(target: str) -> str:
    """The name of a target without the way there: of its folder, with the part of it that is meant."""
    from carso.audit.loading import column_of

    parts = Path(os.path.abspath(target)).parts
    return "/".join(parts[-1:] if column_of(target) == "classifier" else parts[-2:])
