"""Defences x attacks x images: outcomes per image, intervals, and the records behind every figure."""

from carso.evaluation.evaluate import Settings, evaluate
from carso.evaluation.interval import wilson
from carso.evaluation.models import Defence, Outcome
from carso.evaluation.protocol import FGSM_L2, SWEEP, TABLE, THESIS, Row, curve
from carso.evaluation.records import Records, read_records
from carso.evaluation.results import Rate, ResultRow, Results, read_results, write_results

__all__ = [
    "FGSM_L2",
    "SWEEP",
    "TABLE",
    "THESIS",
    "Defence",
    "Outcome",
    "Rate",
    "Records",
    "ResultRow",
    "Results",
    "Row",
    "Settings",
    "curve",
    "evaluate",
    "read_records",
    "read_results",
    "wilson",
    "write_results",
]
