"""IDX files to order."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def write_idx(tmp_path: Path) -> Callable[[str, np.ndarray], Path]:
    """Write unsigned bytes to a file of that name, compressed if it ends in `.gz`."""

    def write(name: str, values: np.ndarray) -> Path:
        header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
        data = header + values.astype(np.uint8).tobytes()
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write
