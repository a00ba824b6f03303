"""The command line: `carso VERB ...`, each verb a file of this folder.

Imports wait until a verb needs them, so that `carso --help` answers at once. Exit status: 0 done, 1 an error that we
did not foresee (`--debug` shows its traceback), 2 something in the input is wrong (one line says what), 3 an audit
raised a check, 130 interrupted.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

import carso
from carso.commands import output
from carso.commands.attack import attack
from carso.commands.audit import audit
from carso.commands.demo import demo
from carso.commands.evaluate import evaluate
from carso.commands.export import export
from carso.commands.harden import harden
from carso.commands.options import spread
from carso.commands.predict import predict
from carso.commands.recipe import recipe
from carso.commands.report import report
from carso.commands.reproduce import reproduce
from carso.commands.serve import serve
from carso.commands.shared import memory_ran_out, say
from carso.commands.train import train
from carso.commands.verb import Verb
from carso.errors import CarsoError, shortened
from carso.processes.group import joined, started

SHARED = ("train", "reproduce", "evaluate", "audit")
"""The verbs that several processes carry out together."""

app = typer.Typer(
    name="carso",
    help="Harden an image classifier by recall, and measure honestly how well that worked.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (harden, reproduce, predict, attack, evaluate, audit, report, export, serve, demo):
    app.command(cls=Verb)(verb)
app.add_typer(train, name="train")
app.add_typer(recipe, name="recipe")


def say_versions(asked: bool) -> bool:
    """Print the versions of what figures depend on, and end."""
    if asked:
        import platform

        import torch

        typer.echo(f"carso {carso.__version__}, torch {torch.__version__}, Python {platform.python_version()}")
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=say_versions, is_eager=True, help="Show versions and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; it may stand after a verb, too.")
    ] = False,
) -> None:
    """Options of no verb."""


def main() -> None:
    """Entry point: errors that a user can mend become one line, unless --debug asks for the traceback."""
    output.open_to_all()
    debug = "--debug" in sys.argv
    sys.argv = spread([argument for argument in sys.argv if argument != "--debug"])
    try:
        _check_sharing(sys.argv[1:2])
        with joined():
            _answer()
    except CarsoError as error:
        if debug:
            raise
        say(f"carso: {error}")
        sys.exit(2)
    except BrokenPipeError:
        output.leave()
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            output.leave()
            say("carso: no space left on a device that was written to, such as that of standard output")
            sys.exit(2)
        if (advice := memory_ran_out(error, "".join(sys.argv[1:2]))) is not None:
            say(f"carso: {advice}")
            sys.exit(2)
        found = shortened(f"{type(error).__name__}: {error}")
        say(f"carso: unforeseen {found}\nAdd --debug to see where; please report it.")
        sys.exit(1)


def _answer() -> None:
    """Carry the verb out; what it said is out before it ends, and a status other than 0 stays."""
    try:
        app()
    except SystemExit as ended:
        try:
            output.flush()
        except OSError:
            if not ended.code:
                raise
            output.leave()
        raise


def _check_sharing(verb: list[str]) -> None:
    if started() > 1 and verb and verb[0] not in SHARED:
        raise CarsoError(f"{verb[0]} is the work of one process; start it without torchrun")
