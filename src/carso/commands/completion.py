"""What the shell completes: names of recipes, defences, data sets and attacks, told without waiting for torch.

What matches no name is left to the shell, which then completes paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

PACKAGE = Path(__file__).parents[1]

DATA = ("mnist", "fashion-mnist", "cifar10", "cifar100")
"""`carso.data.NAMES`."""

ATTACKS = ("fgsm", "pgd", "deepfool", "apgd", "pgd-eot", "square", "spsa", "noise")
"""The names of `carso.attacks.ATTACKS`."""


def recipes() -> list[str]:
    """The shipped recipes."""
    return sorted(path.stem for path in (PACKAGE / "recipes").glob("*.yaml"))


def reproducible() -> list[str]:
    """The shipped recipes and studies."""
    return sorted([*recipes(), *(path.stem for path in (PACKAGE / "recipes" / "studies").glob("*.yaml"))])


def defences() -> list[str]:
    """The shipped defences, and the name that stands for one of them."""
    return ["mnist", *_shipped("purifier")]


def targets() -> list[str]:
    """The same, and the classifiers that ship without a purifier."""
    return [*defences(), *(f"{name}/classifier" for name in _shipped("classifier") if name not in defences())]


def _shipped(part: str) -> list[str]:
    return sorted(path.parent.name for path in (PACKAGE / "assets" / "weights").glob(f"*/{part}.safetensors"))


def of(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What typer asks for: those of the names that begin as what is typed does."""

    def beginning(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return beginning
