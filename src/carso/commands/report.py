"""`carso report`: the page of a run or an audit, a comparison of several, or the architecture of a defence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carso.commands.options import Factory
from carso.commands.shared import defence_of, say


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders with results.json, several on one page; or one with audit.json.")
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
    """Show a run or an audit on a page, or compare several runs.

    Written from what they saved. Or draw a defence's architecture.
    """
    if architecture is not None and runs:
        raise typer.BadParameter(f"--architecture draws a defence, without a run; leave out {runs[0]} or the option")
    if architecture is None and factory is not None:
        raise typer.BadParameter("--factory is the classifier of --architecture")
    if architecture is not None:
        say(f"architecture: {draw_architecture(architecture, out or Path('out/architecture.svg'), factory)}")
    elif runs:
        say(f"report: {write_page(runs, out)}")
    else:
        raise typer.BadParameter("give a folder with results.json or audit.json, or --architecture DEFENCE")


def write_page(runs: list[Path], out: Path | None) -> Path:
    """The page of one run or audit, or the comparison of several runs; returns its path."""
    from carso.report.artifacts import is_alone
    from carso.report.audited import write_audit
    from carso.report.comparison import compare
    from carso.report.page import write_report
    from carso.storage.files import check_writable

    if out is not None:
        check_writable(out, ".html")
    if len(runs) > 1:
        return compare(runs, out)
    return write_audit(runs[0], out) if is_alone(runs[0]) else write_report(runs[0], out)


def draw_architecture(source: str, drawing: Path, factory: str | None) -> Path:
    """The architecture of a defence, written as SVG; returns its path."""
    from carso.report.architecture import dimensions_of, draw
    from carso.storage.files import check_writable, write_text

    check_writable(drawing, ".svg")
    write_text(drawing, draw(dimensions_of(defence_of(source, factory))))
    return drawing
