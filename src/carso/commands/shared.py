"""What several verbs do alike: loading by name, speaking on standard error, and a word on how to go on."""

from __future__ import annotations

import re
import shlex
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from carso.commands.options import MNIST
from carso.errors import CarsoError, DataError, ModelError, of_memory
from carso.processes.group import by_first

if TYPE_CHECKING:
    from torch import nn

    from carso.data import Dataset
    from carso.defence import CARSO
    from carso.detection import Confidence
    from carso.evaluation import Settings
    from carso.evaluation.models import Models
    from carso.evaluation.protocol import Protocol
    from carso.storage.headers import Origin
    from carso.training.experiment import Experiment
    from carso.types import Classifier, Images


@dataclass(frozen=True)
class Subject:
    """What a verb is about: a model by its name, where it computes, and the images that it is asked about.

    `own` is N, where the model is a defence of a classifier of the user's own; `fitted` is how pictures are made alike.
    """

    source: str
    model: Any
    own: nn.Module | None
    origin: Origin
    data: str
    fitted: Mapping[str, Any]

    @property
    def classifier(self) -> Any:
        """What labels images that nobody labelled: the classifier behind a purifier, else the model itself."""
        from carso.evaluation.models import behind

        return behind(self.model)

    def load(self, split: Literal["validation", "test"]) -> Dataset:
        """The images of a split."""
        from carso.data import load

        return load(self.data, split, **self.fitted)

    def rejecting(self, false_alarms: float | None) -> Subject:
        """The same with a model that turns images away, where a rate is given; raises as `calibrated`."""
        if false_alarms is None:
            return self
        return replace(self, model=calibrated(self.model, partial(self.load, "validation"), false_alarms))


def subject_of(
    source: str,
    factory: str | None,
    samples: int | None,
    device: str,
    data: str | None,
    fitted: Mapping[str, Any],
) -> Subject:
    """The subject of a name as for `carso audit`; the options as for `defence_of` and `images_of`."""
    from carso.audit.loading import load_target, origin_of

    say_which(source)
    own = classifier_of(factory)
    model = moved(voting_by(samples, load_target(source, own)), device)
    origin = origin_of(source)
    return Subject(source, model, own, origin, *images_of(origin, data, fitted))


def experiment_of(
    recipe: str, out: Path | None, seed: int | None, device: str, samples: int | None = None, watch: str | None = None
) -> Experiment:
    """The experiment of a recipe, by name or file, in its folder; says so where a recipe names code to be run."""
    from carso.training.device import choose_device
    from carso.training.experiment import Experiment
    from carso.training.reading import read_recipe
    from carso.training.watching import watcher_of

    chosen = read_recipe(recipe)
    if (source := chosen.classifier.factory) is not None:
        say(f"{recipe} has the function {source!r} run (classifier.factory), looked for in {Path.cwd()} first")
    told = {name: value for name, value in {"seed": seed, "samples": samples}.items() if value is not None}
    chosen = chosen.model_copy(update=told)
    folder, watcher = out or Path("out") / chosen.name, watcher_of(watch)
    return Experiment(chosen, folder, choose_device(device), watcher=watcher)


def prepare(experiment: Experiment, stages: Sequence[str] | None = None) -> None:
    """Take the experiment's folder, and say what the stages of these names, or all, will cost."""
    from carso.training.plan import announce

    experiment.open()
    by_first(lambda: announce([stage for stage in experiment.pending() if stages is None or stage.name in stages]))


def defence_of(source: str, factory: str | None = None, samples: int | None = None, device: str = "cpu") -> CARSO:
    """A defence by name or folder, with the classifier that `factory` names if it is one of the user's own.

    `samples` is by how many candidates it votes, by default its own number; `device` as for `moved`.
    """
    from carso.storage.weights import load

    say_which(source)
    defence: CARSO = moved(voting_by(samples, load(source, classifier_of(factory))), device)
    return defence


def moved(model: Any, device: str) -> Any:
    """The model on the named device, or with "auto" on the GPU if there is one; a plain function is where it is.

    Raises:
        CarsoError: if the device is unknown or not there, or a plain function is to go to the GPU.
    """
    from torch import nn

    from carso.training.device import choose_device

    chosen = choose_device(device)
    if isinstance(model, nn.Module):
        return model.to(chosen)
    if device == "cuda":
        raise CarsoError(f"--device cuda is for a module; a {type(model).__name__} computes where it was made to")
    return model


def say_which(target: str) -> None:
    """Say what a target's name, or the one before its "/classifier", stands for, where a folder has that name, too."""
    from carso.storage.folder import hidden_by

    for name in (target, target.rpartition("/")[0]):
        if (folder := hidden_by(name)) is not None:
            say(f"{name} is the shipped one; ./{folder} is the folder")


def slug_of(target: str) -> str:
    """A target's name as that of a folder."""
    return target.strip("/").replace("/", "-").replace(":", "-")


def rejecting(false_alarms: float | None) -> str:
    """What a folder's name says of images that are turned away."""
    return "" if false_alarms is None else f"-reject-at-{false_alarms:g}"


def voting_by(samples: int | None, model: Any) -> Any:
    """The model, made to vote by so many candidates where a number is given.

    Raises:
        CarsoError: if it does not vote.
    """
    if samples is not None:
        if not isinstance(getattr(model, "samples", None), int):
            raise CarsoError(f"--samples is for a defence that votes, which a {type(model).__name__} does not")
        model.samples = samples
    return model


def calibrated(model: Any, held_out: Callable[[], Dataset], false_alarms: float) -> CARSO | Confidence:
    """The model made to turn images away: a defence by its own thresholds, or by clean images that were held out.

    Args:
        model: which one.
        held_out: loads the images, where they are needed.
        false_alarms: the rate.

    Raises:
        CarsoError: if that rate of false alarms cannot be promised.
    """
    from carso.defence import CARSO
    from carso.detection import HELD_OUT, Confidence
    from carso.evaluation.models import device_of
    from carso.evaluation.seeding import seeded

    known = model if isinstance(model, CARSO) else Confidence(model)

    def clean() -> Images:
        return held_out().in_turns()[:HELD_OUT].images.to(device_of(model))

    with seeded(0, "calibration"):
        calibration = known.calibration or known.calibrate(clean())
    calibration.threshold(false_alarms)
    return known


def images_of(own: Origin, data: str | None, told: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The data set named, or that of the training, else MNIST; and how its pictures are made alike.

    What the command line has `told` of that comes first, the rest is as in the training if it was on these data.

    Raises:
        DataError: if neither says which, and the classes are not those of MNIST, or the data of the training are not
            where they were.
    """
    from carso.data import check_source, is_same
    from carso.storage.headers import fitting_of

    if data is None and own.data is None and not own.may_be_digits:
        raise DataError(
            f"the classes {', '.join(map(repr, (own.names or ())[:3]))} are of data that are not known; name the "
            "images by --data, or set the defence's `data` before it is saved"
        )
    if data is None and own.data is not None:
        try:
            check_source(own.data)
        except DataError as error:
            was = "it is what this defence was trained on, as seen from the folder of then"
            raise DataError(f"{error}: {was}; --data names where it is now") from error
    name = data or own.data or MNIST
    then = fitting_of(own) if own.data is not None and is_same(name, own.data) else {}
    return name, {**then, **told}


def table_of(
    models: Models,
    images: Dataset,
    classifier: Classifier,
    protocol: Protocol,
    settings: Settings,
    out: Path,
    *,
    usual: int,
    **about: Any,
) -> Path:
    """Evaluate models under a protocol, write everything into a folder, and return the report's path.

    The first images are taken, `usual` ones or all there are where the settings do not say how many; the classifier
    labels them if nobody did. What a table tells `about` itself is as for `carso.evaluation.evaluate`.
    """
    from carso.evaluation import evaluate
    from carso.evaluation.labelling import labelled
    from carso.report.publish import publish

    images = labelled(images, classifier, settings.n or usual)
    settings = replace(settings, n=settings.n or min(usual, len(images)))
    records = evaluate(models, images, settings=settings, directory=out, **about, **vars(protocol))
    return by_first(partial(publish, records, out))


def classifier_of(factory: str | None) -> nn.Module | None:
    """The module that `package.module:function` returns; None if there is no such function to call."""
    from carso.storage.factory import module

    return None if factory is None else module(factory)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the folder of a run for these processes alone; Ctrl-C becomes a word on how to go on, and exit status 130.

    Raises:
        RunError: if another process holds it, or it cannot be written.
    """
    from carso.storage.claim import claim

    try:
        with ExitStack() as held:
            by_first(lambda: held.enter_context(claim(folder)))
            yield
            by_first(held.close)
    except KeyboardInterrupt:
        say(f"\nstopped; what was done is kept in {folder}. To go on, run the same command again:")
        say(f"    {command_line()}")
        sys.exit(130)


def check_web(what: str, package: str) -> None:
    """Raise a ModelError that names the package with its extra, unless what speaks HTTP is installed."""
    if not (find_spec("starlette") and find_spec("uvicorn")):
        raise ModelError(f"{what} needs starlette and uvicorn: pip install '{package}'")


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """A socket that listens there, and its address as a URL; port 0 takes a free one.

    Raises:
        DataError: if the port is taken, or the host is not ours.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise DataError(f"cannot listen on {host}:{port}: {reason}; choose another --host or --port") from error
    return listener, f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"


def lets_others_in(listener: socket.socket) -> bool:
    """Whether other machines can reach it."""
    return not ip_address(listener.getsockname()[0]).is_loopback


def command_line() -> str:
    """What the user typed."""
    return shlex.join(["carso", *sys.argv[1:]])


def say(text: str) -> None:
    """Print a line on standard error."""
    typer.echo(text, err=True)


LESS_MEMORY = {
    "harden": "a smaller --batch with another --out, or a smaller --chunk",
    "reproduce": "fewer --test-images; or, in the recipe, a larger `accumulate` or smaller `batch`, and another --out",
    "train": "a larger `accumulate` or a smaller `batch` in the recipe, for another folder",
    "attack": "fewer --images",
    "evaluate": "fewer --images or a smaller --chunk",
    "audit": "fewer --images or a smaller --chunk",
    "serve": "a smaller --batch",
    "predict": "fewer pictures, or fewer --samples of a defence",
    "export": "fewer --samples of a defence",
    "demo": "fewer --samples",
}
"""What to set for less memory, by the verb."""


def memory_ran_out(error: Exception, verb: str) -> str | None:
    """A line on what to set, if an error of Python, numpy, torch or CUDA says that there was not enough memory."""
    if not of_memory(error):
        return None
    wanted = re.search(r"allocate (\d[\d.]* \w+)", str(error))
    asked = f" ({wanted[1]} more were asked for)" if wanted else ""
    return f"memory ran out{asked}; set {LESS_MEMORY[verb]}" if verb in LESS_MEMORY else f"memory ran out{asked}"
