"""What is read of a file of tensors is free of it."""

from pathlib import Path

import pytest
import torch

from carso.storage.tensors import read_tensors, write_tensors

MAPS = Path("/proc/self/maps")


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux lists what a process has mapped")
def test_a_file_that_was_read_is_not_kept_mapped(tmp_path: Path) -> None:
    """Windows would not let the run that goes on with it replace it."""
    path = tmp_path / "state.safetensors"
    tensors = {"a": torch.rand(300, 40), "b": torch.arange(7), "none": torch.zeros(0, 3)}
    write_tensors(path, tensors, {"kind": "state"})
    found, _ = read_tensors(path, "state")
    assert str(path) not in MAPS.read_text()
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
