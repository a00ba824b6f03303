"""Ablations: what is left of a defence without one of its parts, and whether statements about that hold."""

from carso.ablations.ablations import AblationStudy
from carso.ablations.intervention import Ablated, intervened
from carso.ablations.results import Ablations, read_ablations
from carso.ablations.study import Study, read_study

__all__ = ["Ablated", "AblationStudy", "Ablations", "Study", "intervened", "read_ablations", "read_study"]
