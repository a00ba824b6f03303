"""What a run shows when it is done: the table on the terminal and as Markdown, and the page."""

from __future__ import annotations

import sys
from pathlib import Path

from carso.evaluation.records import Records
from carso.report.page import write_report
from carso.report.table import markdown, print_table
from carso.storage.files import write_text


def publish(records: Records, out: Path) -> Path:
    """Write `results.md` and `report.html` into the run's folder, print the table, and return the page's path."""
    results = records.results()
    write_text(out / "results.md", markdown(results))
    page = write_report(out)
    print_table(results, file=sys.stdout)
    return page
