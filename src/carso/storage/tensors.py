"""Tensors on disk: safetensors with a JSON description in the header, and no pickle on any path.

The description carries a digest of itself and of every tensor, so that damage is seen. A file from before there were
digests is read without.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from carso.errors import VALUE, RunError, WeightsError, in_a_line, shortened, shown
from carso.storage.files import write_aside
from carso.storage.schema import SAID

_KEY, _DIGEST = "carso", "digest"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors with a JSON-serialisable description.

    Raises:
        RunError: if the file cannot be written; an old one stays whole.
    """
    plain = _apart({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    metadata = {_KEY: json.dumps({**description, _DIGEST: _digest(plain, description)})}

    def write(aside: Path) -> None:
        try:
            save_file(plain, aside, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    write_aside(path, write)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those that share memory copied, as tied weights are: a file of safetensors shares nothing."""
    found: dict[str, Tensor] = {}
    met: set[int] = set()
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in met else tensor
        met.add(place)
    return found


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description of a file whose description has this "kind".

    The tensors are copies: those of safetensors keep the file mapped, and Windows replaces no file that is.

    Raises:
        WeightsError: if the file is missing, truncated, changed since it was written, not written by carso, or of
            another kind.
    """
    if not path.is_file():
        raise WeightsError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {}).get(_KEY, "null"))
            _check_kind(path, description, kind)
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is truncated or not a safetensors file: {error}") from error
    digest = description.pop(_DIGEST, None)
    if digest is not None and digest != _digest(tensors, description):
        raise WeightsError(f"{path} was changed after it was written: its digest differs")
    return tensors, description


def read_state(path: Path, kind: str, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description of a file of a run's, as `read_tensors` reads them.

    Raises:
        RunError: with the remedy, where that raises WeightsError.
    """
    try:
        return read_tensors(path, kind)
    except WeightsError as error:
        raise RunError(f"{in_a_line(str(error), SAID)}; {remedy}") from error


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Hold the values of a file to what can be computed with.

    Raises:
        WeightsError: naming the file and the first tensor that holds NaN or infinity.
    """
    for name, tensor in tensors.items():
        values = tensor.float() if tensor.is_floating_point() and tensor.element_size() < 2 else tensor
        if not values.isfinite().all():
            raise WeightsError(f"{path}: {shown(name)} holds NaN or infinity")


def _check_kind(path: Path, description: Any, kind: str) -> None:
    if not isinstance(description, dict) or "kind" not in description:
        raise WeightsError(f"{path} was not written by carso: its header lacks the description")
    if description["kind"] != kind:
        raise WeightsError(f"{path} is of the kind {shortened(str(description['kind']), VALUE)}, not {kind}")


def _digest(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> str:
    sha = hashlib.sha256(json.dumps(description).encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()
