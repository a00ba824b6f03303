"""The folder of a defence: what its files are called, and where it is found, shipped or by path.

classifier.safetensors    N
purifier.safetensors      what makes a whole defence of it; without one it is a plain classifier
undefended.safetensors    the classifier trained on clean images alone, if there is one
purifier-unhardened...    the purifier before its hardening, if the recipe has one
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from carso.errors import WeightsError, did_you_mean

CLASSIFIER, PURIFIER, UNDEFENDED = "classifier.safetensors", "purifier.safetensors", "undefended.safetensors"
UNHARDENED = "purifier-unhardened.safetensors"
RECIPE, HISTORY, CHOICE, AUDIT = "recipe.yaml", "history.json", "choice.json", "audit.json"
"""What a run writes beside its weights."""

SHIPPED = Path(str(resources.files("carso"))) / "assets" / "weights"
"""Where the package keeps its own."""

DEFAULTS = {"mnist": "mnist-strong-contrast"}
"""The shipped defence that a data set's name stands for."""


def shipped(file: str = PURIFIER) -> list[str]:
    """Names of what ships inside the package with such a file; by default of whole defences."""
    return sorted(entry.name for entry in SHIPPED.iterdir() if (entry / file).exists()) if SHIPPED.exists() else []


def find(source: str | Path, file: str = PURIFIER) -> Path:
    """The folder of a defence, by the name of a shipped one or by path.

    Args:
        source: the name, or the path; a `Path` is never a name, nor is what has a slash in it, as "./mnist".
        file: what the folder must hold; by default what makes a whole defence.

    Raises:
        WeightsError: if there is none, with the near names and what would make one.
    """
    if (found := folder_of(source, file)) is not None:
        return found
    folder = Path(source)
    known = [*DEFAULTS, *shipped(file)]
    hint = did_you_mean(str(source), known)
    takers = "carso.load_model, and carso predict, export, evaluate and audit, take it"
    plain = f"{source} is a plain classifier and no whole defence: {takers}"
    beside = folder.parent if isinstance(source, Path) else str(folder.parent)
    if f"{folder.name}.safetensors" in (CLASSIFIER, UNDEFENDED) and folder_of(beside, f"{folder.name}.safetensors"):
        raise WeightsError(plain)
    if isinstance(source, str) and source in shipped(CLASSIFIER):
        raise WeightsError(f"{plain} as {source}/classifier")
    if os.path.exists(folder):
        raise WeightsError(f"{folder} holds no {file}: it is not a defence that carso saved{hint}")
    raise WeightsError(f"no defence {str(source)!r}{hint}; shipped: {', '.join(known)}; or pass a folder of weights")


def is_whole(source: str | Path) -> bool:
    """Whether a name or folder, as for `find`, has a purifier."""
    return folder_of(source, PURIFIER) is not None


def hidden_by(name: str) -> Path | None:
    """The folder of weights that is called as a shipped defence, which the name stands for; None if there is none."""
    folder = Path(name)
    known = name in (*DEFAULTS, *shipped(), *shipped(CLASSIFIER))
    return folder if known and any(os.path.exists(folder / file) for file in (PURIFIER, CLASSIFIER)) else None


def folder_of(source: str | Path, file: str) -> Path | None:
    """The folder of a defence, as for `find`; None if there is none that holds the file."""
    if isinstance(source, str) and (name := DEFAULTS.get(source, source)) in shipped(file):
        return SHIPPED / name
    return Path(source) if os.path.exists(Path(source) / file) else None
