"""A rival on disk: `rival.safetensors`, all of its weights, N's included, and in the header what it is.

{"kind": "rival", "rival": {"kind", "options"}, "architecture", "options", "seconds"}

`architecture` and `options` are those of N, one of `carso.nn.ARCHITECTURES`; `seconds` is how long it was trained.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from carso.errors import ModelError, RecipeError, WeightsError
from carso.nn import ARCHITECTURES
from carso.rivals.kinds import RivalSpec, build
from carso.storage.filling import check_fit, fill
from carso.storage.headers import OPTIONS
from carso.storage.schema import Schema, validated
from carso.storage.tensors import check_finite, read_tensors, write_tensors
from carso.storage.weights import architecture_of

FILE = "rival.safetensors"


class RivalHeader(Schema):
    """What the header says."""

    rival: RivalSpec
    architecture: Literal["mlp", "cnn", "resnet"]
    options: dict[str, Any]
    seconds: Annotated[float, Field(ge=0)] | None = None


def save(rival: nn.Module, spec: RivalSpec, classifier: nn.Module, folder: Path, seconds: float | None = None) -> None:
    """Write a rival into a folder.

    Args:
        rival: in whatever mode.
        spec: what it was built of.
        classifier: N, as it was handed to `carso.rivals.kinds.build`; one of the library's own.
        folder: made if missing.
        seconds: how long it was trained, if that is known.

    Raises:
        ModelError: if N is of a class of the user's.
        WeightsError: if a weight is not finite.
    """
    architecture = architecture_of(classifier)
    if architecture is None:
        raise ModelError(f"a rival is saved with a network of the library's own, not a {type(classifier).__name__}")
    tensors = rival.state_dict()
    check_finite(tensors, folder / FILE)
    about = {"rival": spec.model_dump(mode="json"), "architecture": architecture, "options": classifier.options}
    write_tensors(folder / FILE, tensors, {"kind": "rival", **about, "seconds": seconds})


def load(folder: str | Path) -> nn.Module:
    """A rival that `save` wrote, in eval mode on the CPU.

    Raises:
        WeightsError: if there is none, or the file is damaged.
    """
    tensors, header = read(Path(folder))
    path = Path(folder) / FILE
    try:
        with torch.device("meta"):
            expected = _made(header).state_dict()
        check_fit(expected, tensors, path)
        return fill(_made(header), tensors, path).eval()
    except (RecipeError, ModelError) as error:
        raise WeightsError(f"{path}: what it describes cannot be built: {error}") from error


def read(folder: Path) -> tuple[dict[str, Tensor], RivalHeader]:
    """The tensors of a rival's file, all finite, and its header.

    Raises:
        WeightsError: if there is none, or it is damaged.
    """
    path = folder / FILE
    tensors, description = read_tensors(path, "rival")
    check_finite(tensors, path)
    header = validated(RivalHeader, description, path)
    options = validated(OPTIONS[header.architecture], header.options, path, "options").model_dump()
    return tensors, header.model_copy(update={"options": options})


def _made(header: RivalHeader) -> nn.Module:
    network: Callable[..., nn.Module] = ARCHITECTURES[header.architecture]
    return build(header.rival, network(**header.options), header.options["shape"], header.options["classes"])
