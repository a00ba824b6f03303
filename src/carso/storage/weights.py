"""Weights on disk: a defence is a folder of safetensors, each described in its own header.

    classifier.safetensors    N                              (kind "classifier")
    purifier.safetensors      the purifier and its settings  (kind "purifier")
    undefended.safetensors    the classifier trained on clean images alone, if there is one
    purifier-unhardened...    the purifier before its hardening, if the recipe has one

The headers carry the architecture, the recipe, the seed and the figures, so that a file explains itself.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carso.defence import CARSO
from carso.errors import WeightsError
from carso.nn.maps import Maps
from carso.nn.mlp import MLP
from carso.purifier import Purifier, Widths
from carso.storage.tensors import read_tensors, write_tensors

CLASSIFIER, PURIFIER, UNDEFENDED = "classifier.safetensors", "purifier.safetensors", "undefended.safetensors"
UNHARDENED = "purifier-unhardened.safetensors"
AUDIT = "audit.json"

DEFAULTS = {"mnist": "mnist-strong"}
"""The shipped defence that a data set's name stands for."""


def load(source: str | Path, classifier: nn.Module | None = None) -> CARSO:
    """A trained defence, in eval mode on the CPU.

    Args:
        source: the name of a shipped one ("mnist", "mnist-thesis") or a folder that `save` or `carso train` wrote.
        classifier: N, where the folder was trained for a classifier of the user's own.

    Raises:
        WeightsError: if there is no such defence, a file is damaged, the files do not belong together, or only the
            user can build the classifier.
    """
    folder = find(source)
    tensors, about = read_tensors(folder / PURIFIER, "purifier")
    if classifier is None and not (folder / CLASSIFIER).exists():
        raise _foreign(folder, about)
    classifier = load_classifier(folder / CLASSIFIER) if classifier is None else classifier
    if digest(classifier) != about["classifier"]:
        raise WeightsError(f"{folder / PURIFIER} was trained for a classifier with other weights")
    widths = Widths(**{name: tuple(sizes) for name, sizes in about["widths"].items()})
    maps = Maps(**about["maps"]) if about.get("maps") else None
    purifier = Purifier(about["shape"], about["neurons"], about["latent"], widths, maps=maps).eval()
    _fill(purifier, tensors, folder / PURIFIER)
    return CARSO(
        classifier,
        purifier,
        about["layers"],
        about["samples"],
        rule=about["rule"],
        stop=about["stop"],
        error=about["error"],
    )


def load_classifier(path: Path) -> nn.Module:
    """A classifier that `save_classifier` wrote, in eval mode.

    Raises:
        WeightsError: if the file is damaged, or holds the weights of a class that is not the library's.
    """
    tensors, about = read_tensors(path, "classifier")
    if about["architecture"] != "mlp":
        raise _foreign(path, about)
    classifier = MLP(**about["options"])
    _fill(classifier, tensors, path)
    return classifier.eval()


def restore_purifier(purifier: Purifier, path: Path) -> None:
    """Put the weights of a purifier file into a purifier of the same sizes.

    Raises:
        WeightsError: if the file is damaged or its purifier has other sizes.
    """
    tensors, _ = read_tensors(path, "purifier")
    _fill(purifier, tensors, path)


def load_undefended(source: str | Path) -> nn.Module | None:
    """The undefended classifier of a saved defence, or None if it has none."""
    path = find(source) / UNDEFENDED
    return load_classifier(path) if path.exists() else None


def about(path: Path, kind: str) -> dict[str, Any]:
    """The description in a file's header."""
    return read_tensors(path, kind)[1]


def save(defence: CARSO, folder: Path, origin: Mapping[str, Any] | None = None, *, half: bool = False) -> None:
    """Write a defence's classifier and purifier; see `save_classifier` and `save_purifier`."""
    save_classifier(defence.classifier, folder / CLASSIFIER, origin, half=half)
    save_purifier(defence, folder / PURIFIER, origin, half=half)


def save_classifier(
    classifier: nn.Module, path: Path, origin: Mapping[str, Any] | None = None, *, half: bool = False
) -> None:
    """Write a classifier.

    Args:
        classifier: the module; one that is not the library's can be read back only into the same module.
        path: of the file.
        origin: recipe, seed and figures, for the header.
        half: store float16, which halves the file; the values are rounded.
    """
    ours = isinstance(classifier, MLP)
    description = {
        **(origin or {}),
        "kind": "classifier",
        "architecture": "mlp" if ours else "foreign",
        "options": classifier.options if ours else None,
    }
    write_tensors(path, _stored(classifier, half), description)


def _described(maps: nn.Module) -> dict[str, Any] | None:
    return {"shapes": maps.shapes, "channels": maps.channels} if isinstance(maps, Maps) else None


def save_purifier(defence: CARSO, path: Path, origin: Mapping[str, Any] | None = None, *, half: bool = False) -> None:
    """Write a defence's purifier, its settings, and a digest of the classifier that it belongs to."""
    purifier = defence.purifier
    description = {
        **(origin or {}),
        "kind": "purifier",
        "shape": purifier.shape,
        "neurons": purifier.neurons,
        "latent": purifier.latent,
        "widths": asdict(purifier.widths),
        "maps": _described(purifier.maps),
        "layers": defence.representation.layers,
        "samples": defence.samples,
        "rule": defence.rule,
        "stop": defence.stop,
        "error": defence.error,
        "classifier": digest(defence.classifier, half=half and isinstance(defence.classifier, MLP)),
    }
    write_tensors(path, _stored(purifier, half), description)


def digest(module: nn.Module, *, half: bool = False) -> str:
    """A short digest of a module's weights, as they are read back after `_stored(module, half)`."""
    sha = hashlib.sha256()
    for name, value in sorted(_stored(module, half).items()):
        restored = value.float() if value.is_floating_point() else value
        sha.update(name.encode() + restored.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


def shipped() -> list[str]:
    """Names of the defences inside the package."""
    folder = Path(str(resources.files("carso"))) / "assets" / "weights"
    return sorted(entry.name for entry in folder.iterdir() if (entry / PURIFIER).exists()) if folder.exists() else []


def find(source: str | Path, file: str = PURIFIER) -> Path:
    """The folder of a defence, by the name of a shipped one or by path.

    Args:
        source: the name or the path.
        file: what the folder must hold; by default what makes a whole defence.

    Raises:
        WeightsError: if there is none, with the near names and what would make one.
    """
    name = DEFAULTS.get(str(source), str(source))
    if name in shipped():
        return Path(str(resources.files("carso"))) / "assets" / "weights" / name
    folder = Path(source)
    if (folder / file).exists():
        return folder
    known = [*DEFAULTS, *shipped()]
    near = difflib.get_close_matches(str(source), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if folder.exists():
        raise WeightsError(f"{folder} holds no {file}: it is not a defence that carso saved{hint}")
    raise WeightsError(f"no defence {str(source)!r}{hint}; shipped: {', '.join(known)}; or pass a folder of weights")


def _stored(module: nn.Module, half: bool) -> dict[str, Tensor]:
    return {
        name: value.half() if half and value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }


def _foreign(path: Path, about: Mapping[str, Any]) -> WeightsError:
    """The error for a classifier that only its owner can build; a file's word is never enough to run code."""
    recipe = about.get("recipe")
    named = recipe["classifier"]["factory"] if isinstance(recipe, dict) and "classifier" in recipe else None
    return WeightsError(
        f"{path} belongs to a classifier of your own: build it and pass it as `classifier`, "
        f"or on the command line with --factory {named or 'package.module:function'}"
    )


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    expected = module.state_dict()
    wrong = sorted({*expected} ^ {*tensors}) or [n for n in expected if expected[n].shape != tensors[n].shape]
    if wrong:
        raise WeightsError(f"{path} does not fit its own description: {', '.join(wrong[:3])}")
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(tensors[name])
