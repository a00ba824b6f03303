"""Classifiers and building blocks that know nothing of CARSO, and how someone else's model is handled."""

from carso.nn.asking import ask
from carso.nn.mlp import MLP
from carso.nn.modes import evaluating
from carso.nn.standardise import Standardise

__all__ = ["MLP", "Standardise", "ask", "evaluating"]
