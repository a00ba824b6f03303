"""Finding what is to be audited, by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torch import nn

from carso.errors import ModelError, WeightsError, did_you_mean
from carso.rivals import files
from carso.storage import factory
from carso.storage.headers import Origin, OwnAttack
from carso.types import Classifier

PARTS = ("classifier", "undefended")


def load_target(source: str, classifier: nn.Module | None = None) -> Any:
    """What a name stands for.

    Args:
        source: a shipped defence, or a folder of weights, also a rival's; with "/classifier" or "/undefended"
            behind it, that classifier of it alone; or `package.module:factory`, a function without arguments whose
            answer is audited.
        classifier: N, where the folder was trained for a classifier of the user's own.

    Raises:
        WeightsError: if there is no such defence.
        ModelError: if the function cannot be found, fails, or returns nothing callable.
    """
    from carso.storage import weights

    if _is_factory(source) and not os.path.exists(source):
        return _made(source)
    if os.path.exists(os.path.join(source, files.FILE)):
        return files.load(source)
    whole, part = _parts_of(source)
    _check_known(source, whole, part)
    if not part:
        return weights.load(source, classifier)
    if part == "classifier" and classifier is not None and weights.is_whole(whole):
        return weights.load(whole, classifier).classifier
    file = _file_of(part)
    return weights.load_classifier(weights.find(whole, file) / file, classifier)


def _file_of(part: str) -> str:
    from carso.storage import weights

    return weights.UNDEFENDED if part == "undefended" else weights.CLASSIFIER


def _check_known(source: str, whole: str, part: str) -> None:
    """Raise a WeightsError that says what is taken, unless that part of a defence ships, or there is such a path."""
    from carso.storage import weights

    if os.path.exists(whole) or whole in (*weights.DEFAULTS, *weights.shipped(_file_of(part))):
        return
    defences = (*weights.DEFAULTS, *weights.shipped())
    parts = [f"{name}/{of}" for of in PARTS for name in (*weights.DEFAULTS, *weights.shipped(_file_of(of)))]
    folder = os.path.dirname(whole)
    there = [os.path.join(folder, of) for of in PARTS if os.path.exists(os.path.join(folder, _file_of(of)))]
    hint = did_you_mean(source, (*defences, *parts, *there))
    alone = [name for name in weights.shipped(weights.CLASSIFIER) if name not in defences]
    raise WeightsError(
        f"no defence {source!r}{hint}; shipped: {', '.join(defences)}, also with /classifier behind it"
        f"{''.join(f', and {name}/classifier' for name in alone)}; or pass a folder of weights; "
        "evaluate, audit and export also take package.module:function"
    )


def origin_of(source: str) -> Origin:
    """What the recipe of a target says; nothing, where it is a function of the user's or is not there."""
    from carso.storage import weights

    try:
        return weights.origin(_parts_of(source)[0])
    except WeightsError:
        return Origin()


def attacks_of(source: str) -> tuple[OwnAttack, ...]:
    """Those of the trainings behind a target: of a classifier alone its own, of an undefended one none."""
    _, part = _parts_of(source)
    own = origin_of(source)
    return {"classifier": own.own_attacks, "undefended": ()}.get(part, own.attacks)


def whole_of(source: str) -> str | None:
    """The saved defence of which a target is a classifier; None where it is none, or has no purifier beside it."""
    from carso.storage import weights

    whole, part = _parts_of(source)
    return whole if part and weights.is_whole(whole) else None


def undefended_of(source: str, classifier: nn.Module | None = None) -> nn.Module | None:
    """The undefended classifier of a target that is a saved defence; None where there is none, or none to fill."""
    from carso.storage import weights

    try:
        return weights.load_undefended(source, classifier)
    except WeightsError:
        return None


def column_of(source: str) -> str:
    """The column of a table in which a classifier stands alone: that of the part which it is of a defence, if it is."""
    part = _parts_of(source)[1]
    return {"classifier": "adversarially_trained", "undefended": "undefended"}.get(part, "classifier")


def _parts_of(source: str) -> tuple[str, str]:
    """The defence, and the part of it that is meant; none for the whole, as where a folder of that name has weights."""
    from carso.storage import weights

    whole, part = os.path.split(source.rstrip(os.sep + (os.altsep or "")))
    known = (weights.CLASSIFIER, weights.PURIFIER, files.FILE)
    own = any(os.path.exists(os.path.join(source, file)) for file in known)
    return (whole, part) if part in PARTS and not own else (source, "")


def _is_factory(source: str) -> bool:
    """Whether a name ends in that of a function, behind a colon; that of a drive is followed by separators."""
    _, colon, function = source.rpartition(":")
    return bool(colon) and not {"/", "\\"} & {*function}


def load_transfers(
    source: str, data: str, factories: Sequence[str], classifier: nn.Module | None = None
) -> dict[str, Classifier]:
    """Classifiers whose adversarial images are tried on the target, by name.

    Args:
        source: the target; its own undefended classifier is one, or that of the shipped defence of `data`.
        data: the data set's name.
        factories: further ones, as for `load_target`.
        classifier: as for `load_target`.
    """
    found: dict[str, Classifier] = {}
    for place in (source, data):
        if (undefended := undefended_of(place, classifier)) is not None:
            found["undefended"] = undefended
            break
    return found | {name.replace(":", "."): load_target(name) for name in factories}


def _made(source: str) -> Any:
    subject = factory.call(source)
    if not callable(subject):
        raise ModelError(f"{source!r} returned {type(subject).__name__}, not a callable from images to scores")
    return subject
