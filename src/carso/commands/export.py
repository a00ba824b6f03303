"""`carso export`: a defence as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carso.commands.options import MOST, Channels, Data, Defence, Factory, Samples, Size, SkipBad, fitting
from carso.commands.shared import defence_of, images_of


def export(
    defence: Defence = "mnist",
    out: Annotated[Path | None, typer.Option(help="The ONNX file. [default: out/NAME.onnx]")] = None,
    data: Data = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of the latents inside the file.")] = 0,
    samples: Samples = None,
    classifier: Annotated[bool, typer.Option("--classifier", help="Only the classifier, images to logits.")] = False,
    factory: Factory = None,
    size: Size = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
) -> None:
    """Write a defence as one ONNX file (images to votes), proven against torch on 32 images."""
    from carso.data import load
    from carso.storage.export import export
    from carso.storage.weights import origin

    path, model = out or Path("out") / f"{Path(defence).resolve().name}.onnx", defence_of(defence, factory, samples)
    data, fitted = images_of(origin(defence), data, fitting(size, channels, skip_bad))
    trial = load(data, "test", **fitted)[:32].images
    export(model, path, trial, seed=seed, name=defence, classifier_only=classifier)
    whole = "classifier" if classifier else "defence"
    typer.echo(f"{path} answers in onnxruntime as the {whole} does in torch, on {len(trial)} images")
