"""CARSO: Counter-Adversarial Recall of Synthetic Observations."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carso import attacks, data, nn, rivals
    from carso.audit.leaderboard import benchmark, list_models, load_model
    from carso.defence import CARSO
    from carso.errors import CarsoError
    from carso.purifier import Purifier
    from carso.report.recollections import Recollections, show
    from carso.representation import Representation
    from carso.storage import weights
    from carso.storage.weights import load
    from carso.types import Budget, Severity

__all__ = [
    "CARSO",
    "Budget",
    "CarsoError",
    "Purifier",
    "Recollections",
    "Representation",
    "Severity",
    "attacks",
    "benchmark",
    "data",
    "list_models",
    "load",
    "load_model",
    "nn",
    "rivals",
    "show",
    "weights",
]
__version__ = "0.1.0"

_HOMES = {
    "CARSO": "carso.defence",
    "Budget": "carso.types",
    "CarsoError": "carso.errors",
    "Purifier": "carso.purifier",
    "Recollections": "carso.report.recollections",
    "Representation": "carso.representation",
    "Severity": "carso.types",
    "benchmark": "carso.audit.leaderboard",
    "list_models": "carso.audit.leaderboard",
    "load": "carso.storage.weights",
    "load_model": "carso.audit.leaderboard",
    "show": "carso.report.recollections",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in __all__:
        return import_module({"weights": "carso.storage.weights"}.get(name, f"carso.{name}"))
    raise AttributeError(f"module 'carso' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
