"""`carso evaluate`: the thesis's table for any saved defence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carso.commands.options import MOST, Data, Defence, Factory, Out, Samples, Stop
from carso.commands.shared import claimed, classifier_of, command_line, say

if TYPE_CHECKING:
    from torch import nn

    from carso.evaluation import Settings

USUAL = 1000
"""Images that are evaluated where nobody says how many."""


def evaluate(
    defence: Defence = "mnist",
    out: Out = None,
    data: Data = "mnist",
    split: Annotated[Literal["validation", "test"], typer.Option(help="validation is for choices.")] = "test",
    images: Annotated[
        int | None, typer.Option(min=1, help="How many images, from the first. [default: 1000, or all there are]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of the attacks and the latents.")] = 0,
    samples: Samples = None,
    stop: Stop = "confident",
    factory: Factory = None,
) -> None:
    """The thesis's table for any saved defence: results.json, records and report."""
    from carso.evaluation import Settings

    settings, folder = (
        Settings(n=images, seed=seed, samples=samples, stop=stop),
        out or Path("out") / f"evaluate-{Path(defence).name}",
    )
    with claimed(folder):
        page = run(defence, folder, data, split, settings, command_line(), classifier_of(factory))
    say(f"report: {page}")


def run(
    source: str,
    out: Path,
    data_name: str,
    split: Literal["validation", "test"],
    settings: Settings,
    command: str = "",
    classifier: nn.Module | None = None,
) -> Path:
    """The table of a saved defence, written to `out`; returns the report's path.

    `classifier` is N, where the defence was trained for one of the user's own.
    """
    from carso import data
    from carso.evaluation import evaluate
    from carso.evaluation.models import models_of
    from carso.evaluation.results import FILE
    from carso.report.publish import publish
    from carso.storage import weights
    from carso.storage.files import check_writable

    defence, dataset = weights.load(source, classifier), data.load(data_name, split)
    settings = settings if settings.n else replace(settings, n=min(USUAL, len(dataset)))
    check_writable(out / FILE)
    models = models_of(defence, weights.load_undefended(source))
    name = f"{source} ({split})" if split != "test" else source
    return publish(evaluate(models, dataset, settings=settings, recipe=name, command=command, directory=out), out)
