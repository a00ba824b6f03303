"""Weights on disk: a defence is a folder of safetensors, each described in its own header.

    classifier, undefended            N, and one trained on clean images alone   (kind "classifier")
    purifier, purifier-unhardened     the purifier and its settings              (kind "purifier")

The headers carry the architecture, the recipe, the seed and the figures, so that a file explains itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from carso.correction import CorrectivePurifier
from carso.defence import CARSO, VOTING
from carso.detection import Calibration
from carso.errors import ModelError, WeightsError
from carso.nn import ARCHITECTURES
from carso.nn.maps import Maps
from carso.nn.modes import uncompiled, uncompiled_name
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.storage.factory import copied
from carso.storage.filling import fill, filled
from carso.storage.folder import (
    AUDIT,
    CHOICE,
    CLASSIFIER,
    DEFAULTS,
    PURIFIER,
    RECIPE,
    UNDEFENDED,
    UNHARDENED,
    find,
    folder_of,
    is_whole,
    shipped,
)
from carso.storage.headers import OPTIONS, ClassifierHeader, Header, Origin, PurifierHeader
from carso.storage.schema import validated
from carso.storage.tensors import check_finite, read_tensors, write_tensors
from carso.vote import MOST

__all__ = [
    "AUDIT",
    "CHOICE",
    "CLASSIFIER",
    "DEFAULTS",
    "PURIFIER",
    "RECIPE",
    "UNDEFENDED",
    "UNHARDENED",
    "about",
    "architecture_of",
    "digest",
    "find",
    "is_of",
    "is_whole",
    "load",
    "load_classifier",
    "load_undefended",
    "origin",
    "restore_purifier",
    "save",
    "save_classifier",
    "save_purifier",
    "settings",
    "settings_of",
    "shipped",
    "with_own_weights",
]
H = TypeVar("H", bound=Header)

_File: TypeAlias = tuple[dict[str, Tensor], dict[str, Any]]
"""The tensors and the description of one."""

SETTINGS = ("layers", *VOTING)
"""What decides how a defence votes, beside its weights."""

REFUSED = "was not written, for it could not be read again"
"""What is said of a file that would break its own schema."""

_HEADERS: dict[str, type[Header]] = {"classifier": ClassifierHeader, "purifier": PurifierHeader}


def load(source: str | Path, classifier: nn.Module | None = None) -> CARSO:
    """A trained defence, in eval mode on the CPU.

    Args:
        source: the name of a shipped one ("mnist", "mnist-thesis") or a folder that `save` or `carso train` wrote;
            a `Path` is always a folder.
        classifier: N, where the folder was trained for a classifier of the user's own.

    Raises:
        WeightsError: if there is no such defence, a file is damaged, the files do not belong together, or only the
            user can build the classifier.
    """
    folder = find(source)
    path = folder / PURIFIER
    tensors, header = _read(path, "purifier", PurifierHeader)
    if classifier is None and not (folder / CLASSIFIER).exists():
        raise _foreign(folder, header)
    if classifier is None:
        classifier = load_classifier(folder / CLASSIFIER)
    else:
        classifier = with_own_weights(classifier, folder / CLASSIFIER)
    _check_belongs(path, header, classifier)
    try:
        defence = CARSO(
            classifier,
            filled(lambda: _purifier(header), tensors, path).eval(),
            header.layers,
            header.samples,
            aggregation=header.aggregation,
            stop=header.stop,
            error=header.error,
        )
    except ModelError as error:
        raise WeightsError(f"{path}: {error}") from error
    if header.classes is not None and len(header.classes) != defence.classes:
        raise WeightsError(f"{path}: names {len(header.classes)} classes, the classifier knows {defence.classes}")
    defence.class_names, defence.data = header.classes, header.origin.data
    if header.calibration is not None:
        defence.calibration = Calibration(**header.calibration.model_dump())
    return defence


def load_classifier(path: Path, own: nn.Module | None = None) -> nn.Module:
    """A classifier that `save_classifier` wrote, in eval mode.

    Args:
        path: of the file.
        own: a module of the user's, of which a copy, or itself if it cannot be copied, is filled where the class is
            not the library's.

    Raises:
        WeightsError: if the file is damaged, or holds the weights of a class that is not the library's, and none of
            the user's is given that they fit.
    """
    tensors, header = _read(path, "classifier", ClassifierHeader)
    if header.options is None:
        if own is None:
            raise _foreign(path, header)
        return _refilled(own, tensors, path)
    with _mendable():
        options = validated(OPTIONS[header.architecture], header.options, path, "options")
    build: Callable[..., nn.Module] = ARCHITECTURES[header.architecture]
    return filled(lambda: build(**options.model_dump()), tensors, path).eval()


def with_own_weights(classifier: nn.Module, path: Path) -> nn.Module:
    """A module of the user's, or a copy of it with the weights that stage 1 of the file's own folder gave it.

    One that cannot be copied is itself given these weights.

    Raises:
        WeightsError: if the file is damaged, or does not fit the module.
    """
    if not path.exists():
        return classifier
    tensors, header = _read(path, "classifier", ClassifierHeader)
    return _refilled(classifier, tensors, path) if header.trained else classifier


def is_of(path: Path, classifier: nn.Module) -> bool:
    """Whether a classifier's file holds the very weights of a module, or some that stage 1 of its folder gave it.

    Raises:
        WeightsError: if the file is damaged.
    """
    tensors, header = _read(path, "classifier", ClassifierHeader)
    return header.trained or _digest(tensors) == digest(classifier)


def restore_purifier(purifier: Purifier, path: Path, classifier: nn.Module) -> None:
    """Put the weights of a purifier file into a purifier of the same sizes.

    Args:
        purifier: what is filled.
        path: of the file.
        classifier: N, which the file must be of.

    Raises:
        WeightsError: if the file is damaged, or its purifier has other sizes or was trained for another classifier.
    """
    tensors, header = _read(path, "purifier", PurifierHeader)
    _check_belongs(path, header, classifier)
    fill(purifier, tensors, path)


def load_undefended(source: str | Path, classifier: nn.Module | None = None) -> nn.Module | None:
    """The undefended classifier of a saved defence, or None if it has none; `classifier` as for `load`."""
    path = find(source) / UNDEFENDED
    return load_classifier(path, classifier) if path.exists() else None


def origin(source: str | Path) -> Origin:
    """What the recipe of a saved defence, or of a classifier that is alone, says of its data and attacks.

    Where there is no recipe, a defence that knows its data has kept them.

    Raises:
        WeightsError: if there is no such defence, or its file is damaged.
    """
    alone = not is_whole(source) and folder_of(source, CLASSIFIER) is not None
    kind, file = ("classifier", CLASSIFIER) if alone else ("purifier", PURIFIER)
    path = find(source, file) / file
    with _mendable():
        return validated(_HEADERS[kind], read_tensors(path, kind)[1], path).origin


def about(path: Path, kind: str) -> dict[str, Any]:
    """The description in the header of a file of kind "classifier" or "purifier"."""
    _, description = read_tensors(path, kind)
    validated(_HEADERS[kind], description, path)
    return description


def settings(source: str | Path) -> dict[str, Any]:
    """Those of a saved defence that decide how it votes: layers, samples, aggregation, stop and error.

    Raises:
        WeightsError: if there is no such defence, or its file is damaged.
    """
    path = find(source) / PURIFIER
    with _mendable():
        header = validated(PurifierHeader, read_tensors(path, "purifier")[1], path)
    return {name: getattr(header, name) for name in SETTINGS}


def settings_of(defence: CARSO) -> dict[str, Any]:
    """The same of a defence in memory."""
    return {"layers": tuple(defence.representation.layers), **defence.voting}


def save(defence: CARSO, folder: Path, origin: Mapping[str, Any] | None = None, *, half: bool = False) -> None:
    """Write a defence's classifier and purifier, once neither is refused; see `save_classifier`, `save_purifier`."""
    classifier = _classifier_file(defence.classifier, folder / CLASSIFIER, origin, half)
    purifier = _purifier_file(defence, folder / PURIFIER, origin, half)
    write_tensors(folder / CLASSIFIER, *classifier)
    write_tensors(folder / PURIFIER, *purifier)


def save_classifier(
    classifier: nn.Module, path: Path, origin: Mapping[str, Any] | None = None, *, half: bool = False
) -> None:
    """Write a classifier.

    Args:
        classifier: the module; one that is not the library's can be read back only into the same module.
        path: of the file.
        origin: recipe, seed and figures, for the header.
        half: store float16, which halves the file; the values are rounded.

    Raises:
        WeightsError: if a file of it could not be read back; what was there still is.
    """
    write_tensors(path, *_classifier_file(classifier, path, origin, half))


def _classifier_file(classifier: nn.Module, path: Path, origin: Mapping[str, Any] | None, half: bool) -> _File:
    ours = architecture_of(classifier)
    stored = _stored(classifier, half)
    check_finite(_learned(classifier), path)
    description = {
        **(origin or {}),
        "kind": "classifier",
        "architecture": ours or "foreign",
        "options": uncompiled(classifier).options if ours else None,
    }
    validated(ClassifierHeader, description, path, fault=REFUSED)
    return stored, description


def architecture_of(classifier: nn.Module) -> str | None:
    """The name of one of the library's own architectures; None for a class of the user's."""
    return next((name for name, kind in ARCHITECTURES.items() if type(uncompiled(classifier)) is kind), None)


def _learned(module: nn.Module) -> dict[str, Tensor]:
    """What of a module's state must be finite: all of it, but of a class of the user's the parameters alone."""
    ours = isinstance(module, Purifier) or architecture_of(module) is not None
    return dict(module.state_dict()) if ours else dict(module.named_parameters())


def _described(purifier: Purifier) -> dict[str, Any]:
    if isinstance(purifier, CorrectivePurifier):
        return {"correction": purifier.options}
    if isinstance(purifier, ConvolutionalPurifier):
        return {"convolutions": purifier.options}
    maps = purifier.maps
    convolved = {"shapes": maps.shapes, "channels": maps.channels} if isinstance(maps, Maps) else None
    return {"widths": asdict(purifier.widths), "maps": convolved}


def save_purifier(defence: CARSO, path: Path, origin: Mapping[str, Any] | None = None, *, half: bool = False) -> None:
    """Write a defence's purifier, its settings, and a digest of the classifier that it belongs to.

    Raises:
        WeightsError: if a file of it could not be read back, or would be as another defence, as one with fixed latents
            or with another class's `codes`; what was there still is.
    """
    write_tensors(path, *_purifier_file(defence, path, origin, half))


def _purifier_file(defence: CARSO, path: Path, origin: Mapping[str, Any] | None, half: bool) -> _File:
    purifier, names = defence.purifier, defence.class_names
    _check_plain(defence, path)
    if defence.samples > MOST:
        raise WeightsError(
            f"{path}: a saved defence votes by at most {MOST:,} samples, this one by {defence.samples:,}"
        )
    if names is not None and len(names) != defence.classes:
        raise WeightsError(f"{path} {REFUSED}: class_names are {len(names)}, the classifier knows {defence.classes}")
    description = {
        **(origin or {}),
        "kind": "purifier",
        "shape": purifier.shape,
        "neurons": purifier.neurons,
        "latent": purifier.latent,
        **_described(purifier),
        **settings_of(defence),
        "classifier": digest(defence.classifier, half=half and architecture_of(defence.classifier) is not None),
        **({} if defence.data is None else {"data": str(defence.data)}),
        "classes": names,
        "calibration": None if defence.calibration is None else asdict(defence.calibration),
    }
    stored = _stored(purifier, half)
    check_finite(stored, path)
    validated(PurifierHeader, description, path, fault=REFUSED)
    return stored, description


def _check_plain(defence: CARSO, path: Path) -> None:
    """Hold a defence to be one of weights and settings alone."""
    plain = uncompiled(defence)
    if type(plain) is not CARSO:
        raise WeightsError(f"{path} {REFUSED}: this is {type(plain).__name__}, and what is read back is CARSO")
    if plain.fixed_by is not None:
        raise WeightsError(f"{path} {REFUSED}: its {plain.extra_repr()}, and what is read back draws fresh ones")


def digest(module: nn.Module, *, half: bool = False) -> str:
    """A short digest of a module's weights, as they are read back after `_stored(module, half)`."""
    return _digest(_stored(module, half))


def _digest(state: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name, value in sorted(state.items()):
        restored = value.float() if value.is_floating_point() else value
        sha.update(name.encode() + restored.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


def _stored(module: nn.Module, half: bool) -> dict[str, Tensor]:
    """The weights as a file holds them; float16 where that is wanted and large enough for them."""
    state = {uncompiled_name(name): value for name, value in module.state_dict().items()}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise WeightsError(
                f"{name} of the {type(module).__name__} is a {kind}; a file of weights holds tensors only"
            )
    return {name: value.half() if half and _fits(value) else value for name, value in state.items()}


def _fits(value: Tensor) -> bool:
    """Whether float16 holds a tensor's values, as it may not a variance's."""
    return value.is_floating_point() and bool((value.abs() <= torch.finfo(torch.float16).max).all())


def _read(path: Path, kind: str, schema: type[H]) -> tuple[dict[str, Tensor], H]:
    """The tensors of a file, all finite unless a module of the user's is to tell which must be, and its header."""
    with _mendable():
        tensors, description = read_tensors(path, kind)
        header = validated(schema, description, path)
        if not (isinstance(header, ClassifierHeader) and header.options is None):
            check_finite(tensors, path)
    return tensors, header


def _refilled(classifier: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """A copy of a module, itself if it cannot be copied, with the tensors of a file, in eval mode."""
    again = fill(copied(classifier), tensors, path).eval()
    with _mendable():
        check_finite(_learned(again), path)
    return again


@contextmanager
def _mendable() -> Iterator[None]:
    """Say what to do about a damaged file."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{error}; restore it, or make it anew") from error


def _check_belongs(path: Path, header: PurifierHeader, classifier: nn.Module) -> None:
    if digest(classifier) != header.classifier:
        raise WeightsError(
            f"{path} was trained for a classifier with other weights; pass the one that it was trained for, or train a "
            "purifier for this one in another folder"
        )


def _foreign(path: Path, header: Header) -> WeightsError:
    """The error for a classifier that only its owner can build; a file's word is never enough to run code."""
    return WeightsError(
        f"{path} belongs to a classifier of your own: build it and pass it as `classifier`, "
        f"or on the command line with --factory {header.factory or 'package.module:function'}"
    )


def _purifier(header: PurifierHeader) -> Purifier:
    if header.convolutions is not None:
        return ConvolutionalPurifier(header.shape, latent=header.latent, **header.convolutions.model_dump())
    if header.correction is not None:
        return CorrectivePurifier(header.shape, latent=header.latent, **header.correction.model_dump())
    assert header.widths is not None
    maps = None if header.maps is None else Maps(header.maps.shapes, header.maps.channels)
    return Purifier(header.shape, header.neurons, header.latent, header.widths.widths, maps=maps)
