"""Tensors on disk: safetensors with a JSON description in the header, and no pickle on any path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from carso.errors import WeightsError
from carso.storage.files import write_aside

_KEY = "carso"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors with a JSON-serialisable description.

    Raises:
        RunError: if the file cannot be written; an old one stays whole.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {_KEY: json.dumps(description)}

    def write(aside: Path) -> None:
        try:
            save_file(plain, aside, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    write_aside(path, write)


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description of a file whose description has this "kind".

    Raises:
        WeightsError: if the file is missing, truncated, not written by carso, or of another kind.
    """
    if not path.is_file():
        raise WeightsError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} is truncated or not a safetensors file: {error}") from error
    if not isinstance(description, dict) or "kind" not in description:
        raise WeightsError(f"{path} was not written by carso: its header lacks the description")
    if description["kind"] != kind:
        raise WeightsError(f"{path} holds a {description['kind']}, not a {kind}")
    return tensors, description
