"""Classifiers and building blocks that know nothing of CARSO, and how someone else's model is handled."""

from carso.nn.adapted import Adapted
from carso.nn.cnn import CNN
from carso.nn.contrast import Contrast
from carso.nn.mlp import MLP
from carso.nn.modes import evaluating
from carso.nn.querying import query
from carso.nn.resnet import ResNet
from carso.nn.standardise import Standardise

ARCHITECTURES: dict[str, type[MLP] | type[CNN] | type[ResNet]] = {"mlp": MLP, "cnn": CNN, "resnet": ResNet}
"""The classifiers of the library by the name that files and recipes give them; each has its arguments as `options`."""

__all__ = ["ARCHITECTURES", "CNN", "MLP", "Adapted", "Contrast", "ResNet", "Standardise", "evaluating", "query"]
