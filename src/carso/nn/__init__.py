"""Classifiers and building blocks that know nothing of CARSO."""

from carso.nn.mlp import MLP
from carso.nn.modes import evaluating
from carso.nn.resnet import ResNet
from carso.nn.standardise import Standardise

__all__ = ["MLP", "ResNet", "Standardise", "evaluating"]
