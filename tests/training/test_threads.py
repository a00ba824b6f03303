from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from carso.training.threads import flushed, flushes, limited

TINY = torch.finfo(torch.float32).tiny


@contextmanager
def user(flush: bool) -> Iterator[None]:
    """Somebody who has said what denormals are to be."""
    if not torch.set_flush_denormal(flush):
        pytest.skip("this processor has no such mode")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_zeros_within_and_then_what_they_were(before: bool) -> None:
    denormal = torch.full((7,), TINY)
    with user(before):
        with flushed():
            assert not (denormal / 2).any()
            assert (denormal * 2 / 2 == TINY).all()
        assert flushes() is before
        assert (denormal / 2).any().item() is not before


def test_an_error_leaves_them_as_they_were() -> None:
    with user(False):
        with pytest.raises(KeyboardInterrupt), flushed():
            raise KeyboardInterrupt
        assert not flushes()


@pytest.mark.parametrize(("threads", "zeros"), [(1, True), (2, False)])
def test_one_thread_takes_them_for_zeros_and_several_do_not(threads: int, zeros: bool) -> None:
    before = torch.get_num_threads()
    with user(False):
        with limited(threads):
            assert torch.get_num_threads() == threads
            assert flushes() is zeros
        assert torch.get_num_threads() == before
        assert not flushes()
