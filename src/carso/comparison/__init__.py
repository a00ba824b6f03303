"""The comparison: CARSO and its rivals, one after another under one attacker, in one table."""

from carso.comparison.comparison import ComparisonStudy
from carso.comparison.results import Comparison, read_comparison
from carso.comparison.study import NAMES, Study, read_study

__all__ = ["NAMES", "Comparison", "ComparisonStudy", "Study", "read_comparison", "read_study"]
