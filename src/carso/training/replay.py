"""Recording a training step as a CUDA graph.

Small networks leave a GPU waiting for Python: a PGD-40 step is a thousand kernels of a few microseconds. Recorded
once and replayed, it costs what the kernels cost. Elsewhere, and where several processes share it or it comes in
portions, the step simply runs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from carso.processes import group

Step = Callable[..., Tensor]


class Replay:
    """Calls `step`, whose tensor arguments keep their shapes and which never waits for the device.

    On CUDA the first calls run as they are, the next one records, and all later ones replay.

    Args:
        step: what is called.
        records: whether it may be recorded.
    """

    WARMUP = 3

    def __init__(self, step: Step, records: bool = True) -> None:
        self.step = step
        self.records = records and group.count() == 1
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: tuple[Tensor, ...] = ()
        self.output = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The step's output; on CUDA it is overwritten by the next call."""
        self.calls += 1
        if not inputs[0].is_cuda or not self.records:
            return self.step(*inputs)
        if self.calls <= self.WARMUP:
            return self._aside(*inputs)
        if self.graph is None:
            self._record(*inputs)
        for static, given in zip(self.inputs, inputs, strict=True):
            static.copy_(given)
        assert self.graph is not None
        self.graph.replay()
        return self.output

    def _aside(self, *inputs: Tensor) -> Tensor:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            output = self.step(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return output

    def _record(self, *inputs: Tensor) -> None:
        self.inputs = tuple(tensor.clone() for tensor in inputs)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = self.step(*self.inputs)
