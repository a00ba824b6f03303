"""`carso serve`: a defence over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carso.commands.options import DEFENCES, MNIST, AllowHost, Factory, Samples
from carso.commands.shared import check_web, defence_of, lets_others_in, listen, say
from carso.errors import CarsoError

if TYPE_CHECKING:
    from carso.serve.answering import Answering


def serve(
    defence: Annotated[
        str | None,
        typer.Argument(help="A shipped defence or a folder of weights. [default: mnist]", autocompletion=DEFENCES),
    ] = None,
    onnx: Annotated[Path | None, typer.Option(help="Instead, an ONNX file that `carso export` wrote.")] = None,
    factory: Factory = None,
    samples: Samples = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback let others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    allow_host: AllowHost = None,
    batch: Annotated[int, typer.Option(min=1, help="Images answered together, and of one request, at most.")] = 32,
    queue: Annotated[int, typer.Option(min=1, help="Requests that are in at a time; further ones get a 503.")] = 128,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds in which a request is answered, else 504.")] = 10.0,
) -> None:
    """Answer images over HTTP.

    POST /predict, GET /health, GET /metrics; docs/serving.md tells the rest.
    """
    check_web("the service", "carso[serve]")
    answering = answering_of(defence, onnx, factory, samples)
    listener, address = listen(host, port)
    from carso.serve.service import application
    from carso.web.serving import run

    others, open_to_all = allow_host or [], lets_others_in(listener)
    hosts = None if open_to_all and not others else [host, *others]
    app = application(answering, batch, queue, timeout, hosts)
    say(f"{answering.name} answers at {address}predict; Ctrl-C ends it")
    if open_to_all:
        say(f"warning: whoever reaches {host} can use this machine's processor through it, without a password")
    run(app, listener)


def answering_of(
    defence: str | None, onnx: Path | None, factory: str | None = None, samples: int | None = None
) -> Answering:
    """Who answers, tried on an image.

    Raises:
        CarsoError: if an ONNX file is named together with what only a defence in torch can have.
    """
    from carso.serve.answering import ByOnnx, ByTorch, tried

    if onnx is None:
        name = defence or MNIST
        return tried(ByTorch(defence_of(name, factory, samples), Path(name).name))
    given = {"DEFENCE": defence, "--factory": factory, "--samples": samples}
    if others := [name for name, value in given.items() if value is not None]:
        raise CarsoError(f"--onnx is a whole defence with its own latents; leave out {' and '.join(others)}")
    return tried(ByOnnx(onnx))
