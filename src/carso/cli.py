"""The command line: verbs over the library, each of which imports what it needs when it runs.

Exit status: 0 done, 1 an unforeseen error, 2 something in the input is wrong (one line says what), 3 an audit
raised a check, 130 interrupted.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carso.options import MOST, Data, Defence, Device, Factory, Out, Recipe, Seed, Stop, spread

if TYPE_CHECKING:
    from torch import nn

    from carso.defence import CARSO
    from carso.experiment import Experiment

app = typer.Typer(
    name="carso",
    help="Harden an image classifier by recall, and measure honestly how well that worked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
train = typer.Typer(help="Train one stage of a recipe.", no_args_is_help=True)
app.add_typer(train, name="train")


@app.command()
def reproduce(
    recipe: Recipe,
    out: Out = None,
    seed: Seed = None,
    test_images: Annotated[int, typer.Option(min=1, help="How many test images, from the first.")] = 10_000,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Use the shipped weights; train nothing.")] = False,
    stop: Stop = "confident",
    device: Device = "auto",
) -> None:
    """Train a recipe from nothing (or take its shipped weights), evaluate it and write the report."""
    from carso.reproduce import reproduce

    experiment = _experiment(recipe, out, seed, device)
    with _resumable(experiment.out):
        page = reproduce(experiment, test_images=test_images, pretrained=pretrained, stop=stop, command=_command())
    _say(f"report: {page}")


@train.command("classifier")
def train_classifier(recipe: Recipe, out: Out = None, seed: Seed = None, device: Device = "auto") -> None:
    """Stage 1: the undefended and the adversarially trained classifier of a recipe."""
    experiment = _experiment(recipe, out, seed, device)
    with _resumable(experiment.out):
        experiment.open()
        experiment.train_undefended()
        experiment.train_classifier()
    _say(f"classifiers: {experiment.out}")


@train.command("purifier")
def train_purifier(recipe: Recipe, out: Out = None, seed: Seed = None, device: Device = "auto") -> None:
    """Stage 2: the purifier of the folder's classifier, trained first if it is not there."""
    experiment = _experiment(recipe, out, seed, device)
    with _resumable(experiment.out):
        experiment.check()
        experiment.open()
        experiment.train_classifier()
        experiment.train_purifier()
    _say(f"defence: {experiment.out}")


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Pictures (PNG, JPEG) of any size.")],
    defence: Annotated[str, typer.Option(help="A shipped defence or a folder of weights.")] = "mnist",
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of the latents.")] = 0,
    stop: Stop = "confident",
    factory: Factory = None,
) -> None:
    """Classify pictures, with the share of the vote of each class."""
    from carso.prediction import predict, render

    render(predict(_load(defence, factory), images, seed=seed, stop=stop))


@app.command()
def attack(
    defence: Defence = "mnist",
    method: Annotated[str, typer.Option("--attack", help="fgsm, pgd, deepfool, ...")] = "pgd",
    eps: Annotated[float, typer.Option(help="Radius of the ball, for pixels in [0, 1].")] = 0.3,
    norm: Annotated[Literal["Linf", "L2"], typer.Option(help="Norm of the ball.")] = "Linf",
    directed_at: Annotated[
        Literal["classifier", "defence"], typer.Option(help="What the attacker sees.")
    ] = "classifier",
    data: Data = "mnist",
    images: Annotated[int, typer.Option(min=1, help="How many images of the test split, from the first.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of the attack and the latents.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Keep the (attacked, clean) pairs in this .npz.")] = None,
    factory: Factory = None,
) -> None:
    """Attack a defence's classifier, or the whole of it, and say what each still gets right."""
    from carso.campaign import attack

    attack(
        _load(defence, factory),
        method,
        eps=eps,
        norm=norm,
        directed_at=directed_at,
        data_name=data,
        images=images,
        seed=seed,
        out=out,
    )


@app.command()
def evaluate(
    defence: Defence = "mnist",
    out: Out = None,
    data: Data = "mnist",
    split: Annotated[Literal["validation", "test"], typer.Option(help="validation is for choices.")] = "test",
    images: Annotated[int, typer.Option(min=1, help="How many images, from the first.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of the attacks and the latents.")] = 0,
    stop: Stop = "confident",
    factory: Factory = None,
) -> None:
    """The thesis's table for any saved defence: results.json, records and report."""
    from carso.reproduce import evaluate

    classifier = _classifier(factory)
    folder = out or Path("out") / f"evaluate-{Path(defence).name}"
    with _resumable(folder):
        page = evaluate(
            defence,
            folder,
            data_name=data,
            split=split,
            images=images,
            seed=seed,
            stop=stop,
            command=_command(),
            classifier=classifier,
        )
    _say(f"report: {page}")


@app.command()
def audit(
    target: Annotated[str, typer.Argument(help="A defence, a folder of weights, or package.module:factory.")] = "mnist",
    effort: Annotated[Literal["quick", "standard", "full"], typer.Option(help="How hard to try.")] = "standard",
    eps: Annotated[list[float], typer.Option(help="Radii: --eps 0.15 0.3.")] = [0.15, 0.3],  # noqa: B006
    norm: Annotated[Literal["Linf", "L2"], typer.Option(help="Norm of the balls.")] = "Linf",
    data: Data = "mnist",
    images: Annotated[int | None, typer.Option(min=1, help="How many. [default: the effort's]")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of all chance.")] = 0,
    eot: Annotated[int | None, typer.Option(min=1, help="Candidates per gradient. [default: found by trial]")] = None,
    transfer: Annotated[list[str] | None, typer.Option(help="Further classifiers, package.module:factory.")] = None,
    out: Out = None,
    factory: Factory = None,
) -> None:
    """Attack a whole defence as hard as we can; exit status 3 if a check doubts the figures."""
    from carso.audit.command import run

    folder = out or Path("out") / f"audit-{target.replace('/', '-').replace(':', '-')}"
    with _resumable(folder):
        status = run(
            target,
            data=data,
            effort=effort,
            eps=eps,
            norm=norm,
            images=images,
            seed=seed,
            eot=eot,
            transfer=transfer or (),
            out=folder,
            classifier=factory,
        )
    raise typer.Exit(status)


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders with results.json; several are compared on one page.")
    ] = [],  # noqa: B006
    architecture: Annotated[
        str | None, typer.Option(help="Instead, draw the architecture of this defence (a name or a folder) as SVG.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file. [default: report.html in the folder; comparison.html beside the first folder; "
            "out/architecture.svg]"
        ),
    ] = None,
    factory: Factory = None,
) -> None:
    """Write report.html from what a run saved, compare several runs on one page, or draw a defence's architecture."""
    if architecture is not None:
        from carso.blueprint import blueprint
        from carso.files import write_text
        from carso.report.architecture import draw

        drawing = out or Path("out/architecture.svg")
        write_text(drawing, draw(blueprint(_load(architecture, factory))))
        _say(f"architecture: {drawing}")
        return
    if not runs:
        raise typer.BadParameter("give a folder with results.json, or --architecture DEFENCE")
    from carso.report.comparison import compare
    from carso.report.page import write_report

    _say(f"report: {write_report(runs[0], out) if len(runs) == 1 else compare(runs, out)}")


@app.command()
def export(
    defence: Defence = "mnist",
    out: Annotated[Path | None, typer.Option(help="The ONNX file. [default: out/NAME.onnx]")] = None,
    data: Data = "mnist",
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of the latents inside the file.")] = 0,
    classifier: Annotated[bool, typer.Option("--classifier", help="Only the classifier, images to logits.")] = False,
    factory: Factory = None,
) -> None:
    """Write a defence as one ONNX file (images to votes), proven against torch on 32 images."""
    from carso.data import load as load_data
    from carso.export import export

    path = out or Path("out") / f"{Path(defence).name}.onnx"
    trial = load_data(data, "test").images[:32]
    export(_load(defence, factory), path, trial, seed=seed, name=defence, classifier_only=classifier)
    whole = "classifier" if classifier else "defence"
    typer.echo(f"{path} answers in onnxruntime as the {whole} does in torch, on {len(trial)} images")


@app.command()
def demo(
    defence: Defence = "mnist",
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback let others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    data: Data = "mnist",
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    factory: Factory = None,
) -> None:
    """Draw or pick an image, attack it, and watch the defence recall and vote, in the browser."""
    from carso.demo.command import run

    run(defence, data, host, port, show, _classifier(factory))


@app.command()
def bench(
    defence: Defence = "mnist",
    images: Annotated[int, typer.Option(min=10, help="How many images are attacked.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="How often each contestant runs.")] = 5,
    only: Annotated[
        list[str] | None,
        typer.Option(help="pgd, deepfool, vote, training, fresh; agreement, scaling, profiles. [default: the races]"),
    ] = None,
    clock: Annotated[
        Literal["wall", "processor"], typer.Option(help="processor, on one thread, where others keep the cores busy.")
    ] = "wall",
    out: Annotated[Path | None, typer.Option(help="Add the figures to this JSON file.")] = None,
    factory: Factory = None,
) -> None:
    """Time attacks, votes and training beside the peers' and the machine's limit, in one run."""
    from carso.bench.bench import bench

    whole = _load(defence, factory)
    bench(whole, out, images=images, rounds=rounds, only=only or (), name=defence, clock=clock)
    if out is not None:
        _say(f"figures: {out}")


def _experiment(recipe: str, out: Path | None, seed: int | None, device: str) -> Experiment:
    from carso.experiment import Experiment
    from carso.training.device import choose_device
    from carso.training.recipe import read_recipe

    chosen = read_recipe(recipe)
    if seed is not None:
        chosen = chosen.model_copy(update={"seed": seed})
    return Experiment(chosen, out or Path("out") / chosen.name, choose_device(device))


def _load(source: str, factory: str | None = None) -> CARSO:
    from carso.weights import load

    return load(source, _classifier(factory))


def _classifier(factory: str | None) -> nn.Module | None:
    from carso.factory import module

    return None if factory is None else module(factory)


class _resumable:  # noqa: N801
    """Turns Ctrl-C into a word on how to go on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            _say(f"\nstopped; what was done is kept in {self.folder}. To go on, run the same command again:")
            _say(f"    {_command()}")
            sys.exit(130)


def _command() -> str:
    return shlex.join(["carso", *sys.argv[1:]])


def _say(text: str) -> None:
    typer.echo(text, err=True)


def main() -> None:
    """Entry point: errors that a user can mend become one line, unless --debug asks for the traceback."""
    debug = "--debug" in sys.argv
    sys.argv = spread([argument for argument in sys.argv if argument != "--debug"])
    from carso.errors import CarsoError

    try:
        app()
    except CarsoError as error:
        if debug:
            raise
        _say(f"carso: {error}")
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        _say(f"carso: unforeseen {type(error).__name__}: {error}\nAdd --debug to see where; please report it.")
        sys.exit(1)


if __name__ == "__main__":
    main()
