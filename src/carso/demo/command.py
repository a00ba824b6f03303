"""`carso demo`: load a defence, then serve its page."""

from __future__ import annotations

import socket
import sys
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from threading import Timer

from torch import nn

from carso import data, weights
from carso.data import Dataset
from carso.demo.studio import Studio
from carso.errors import DataError, ModelError


def run(source: str, data_name: str, host: str, port: int, show: bool, classifier: nn.Module | None = None) -> None:
    """Serve the demo of a saved defence until interrupted.

    Raises:
        ModelError: if the extra `demo` is missing.
        DataError: if the port is taken.
    """
    if not (find_spec("starlette") and find_spec("uvicorn")):
        raise ModelError("the demo needs starlette and uvicorn: pip install 'carso[demo]'")
    defence = weights.load(source, classifier)
    images = matching(data_name, defence.purifier.shape)
    studio = Studio(defence, weights.load_undefended(source), images, Path(source).name)
    _check_free(host, port)
    from carso.demo.server import serve

    address = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    print(f"the demo of {source} is at {address}; Ctrl-C ends it", file=sys.stderr)
    if show:
        Timer(0.5, webbrowser.open, (address,)).start()
    serve(studio, host, port)


def matching(name: str, shape: tuple[int, int, int]) -> Dataset | None:
    """The test images of a data set, if they have the shape that the defence takes."""
    dataset = data.load(name, "test")
    return dataset if dataset.shape == shape else None


def _check_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise DataError(f"cannot listen on {host}:{port}: {reason}; choose another --host or --port") from error
