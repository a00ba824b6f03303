"""`carso demo`: load a defence, then serve its page."""

from __future__ import annotations

import socket
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Annotated

import typer

from carso.commands.options import Data, Defence, Factory
from carso.commands.shared import classifier_of, say
from carso.errors import DataError, ModelError

if TYPE_CHECKING:
    from torch import nn

    from carso.data import Dataset
    from carso.demo.studio import Studio


def demo(
    defence: Defence = "mnist",
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback let others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    data: Data = "mnist",
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    factory: Factory = None,
) -> None:
    """Draw or pick an image, attack it, and watch the defence recall and vote, in the browser."""
    if not (find_spec("starlette") and find_spec("uvicorn")):
        raise ModelError("the demo needs starlette and uvicorn: pip install 'carso[demo]'")
    run(studio_of(defence, data, classifier_of(factory)), host, port, show)


def studio_of(source: str, data_name: str, classifier: nn.Module | None = None) -> Studio:
    """A saved defence and what the page needs beside it."""
    from carso.demo.studio import Studio
    from carso.storage import weights

    defence = weights.load(source, classifier)
    images = matching(data_name, defence.purifier.shape)
    return Studio(defence, weights.load_undefended(source), images, Path(source).name)


def run(studio: Studio, host: str, port: int, show: bool) -> None:
    """Serve the page until interrupted.

    Raises:
        DataError: if the port is taken.
    """
    _check_free(host, port)
    from carso.demo.server import serve

    address = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    say(f"the demo of {studio.name} is at {address}; Ctrl-C ends it")
    if show:
        Timer(0.5, webbrowser.open, (address,)).start()
    serve(studio, host, port)


def matching(name: str, shape: tuple[int, int, int]) -> Dataset | None:
    """The test images of a data set, if they have the shape that the defence takes."""
    from carso import data

    dataset = data.load(name, "test")
    return dataset if dataset.shape == shape else None


def _check_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise DataError(f"cannot listen on {host}:{port}: {reason}; choose another --host or --port") from error
