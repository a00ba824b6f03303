"""Any network in a cheaper form: frozen, batch norms folded, channels last, its products in bfloat16.

    BN(W * a + b) = (s W) * a + (s b + t),    s = gamma / sqrt(var + eps),    t = beta - s mean

Where a batch norm follows a convolution and nothing else reads that convolution, it vanishes into the weights;
elsewhere it is s a + t. The layers up to the first convolution stay in float32, so that a small step of an attack is
not lost in the rounding of the image, and a first convolution of few channels reads it in two halves of bfloat16
(`carso.fast.convolutions`); from there on activations are bfloat16, and logits are float32 again.

The folding needs the network's graph (`carso.fast.tracing`). What has none keeps its batch norms; if it writes in place
on the first image, where a form may lose what is written, it has no form at all. S. Ioffe and C. Szegedy, "Batch
normalization", ICML 2015, section 3.1, has the equation.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from carso.errors import of_memory
from carso.fast.convolutions import Opening, opens
from carso.fast.folding import hooked_among
from carso.fast.products import product_dtype
from carso.fast.tracing import Writing, traced
from carso.types import Images

CACHED = 2**22
"""Bytes of the largest activation of a thread's batch: smaller ones were slower, larger ones no faster but larger."""

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)

LEAST = 8
"""Images of a batch at least, to repay the fixed cost of its operations."""


class Frozen(nn.Module):
    """A frozen copy of a network, whose weights are those of the moment it is made.

    Attributes:
        exact: the same in float32, folded too.
        batch: images at a time that each thread of a CPU computes fastest.
    """

    def __init__(self, exact: nn.Module, low: nn.Module, batch: int) -> None:
        super().__init__()
        self.exact, self.low, self.batch = exact, low, batch


class Network(Frozen):
    """A frozen copy that answers as the network does."""

    def forward(self, images: Images) -> Tensor:
        """What the network makes of images or maps (B, C, H, W), such as logits (B, classes), in float32."""
        made: Tensor = self.low(images.contiguous(memory_format=torch.channels_last))
        return made.float()


def network(model: object, images: Images) -> Network | None:
    """A network's cheaper form, or None for what is no network with convolutions, is in train mode or has hooks.

    Args:
        model: any module.
        images: (B, C, H, W), of which the first shows which layers run, in which order.
    """
    if not is_plain(model):
        return None
    copied, writing = copy.deepcopy(model).requires_grad_(False), Writing()
    graph = traced(copied)
    folded: nn.Module = copied if graph is None else _without_norms(graph)
    exact: nn.Module = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with writing if graph is None else nullcontext():
        run = _run(exact, images)
    return None if writing.seen else Network(exact, *_reduced(exact, images, *run)).eval()


def reading(model: object, layers: Sequence[str], images: Images) -> Reading | None:
    """The outputs of a network's layers in a cheaper form; None where `network` has none or a layer is not found.

    Args:
        model: any module.
        layers: names of modules that run once, "input" or "output".
        images: (B, C, H, W), of which the first shows which layers run, in which order.
    """
    if not is_plain(model):
        return None
    graph = traced(copy.deepcopy(model).requires_grad_(False), layers)
    if graph is None:
        return None
    exact: nn.Module = _without_norms(graph).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Reading(exact, *_reduced(exact, images, *_run(exact, images)))


def _reduced(exact: nn.Module, images: Images, run: list[nn.Module], largest: int) -> tuple[nn.Module, int]:
    """The same behind its first convolution in the dtype of products, and how many images at a time are best."""
    first = next((i for i, layer in enumerate(run) if isinstance(layer, CONVOLUTIONS)), len(run))
    dtype = product_dtype(images.device) if images.device.type == "cpu" else torch.bfloat16
    batch = max(LEAST, CACHED // (largest * dtype.itemsize))
    low = exact if dtype is torch.float32 else _cast_behind(exact, run, first, dtype)
    if first < len(run):
        _opened(exact, run[first], torch.float32)
    return low if low is exact or _runs(low, images[:1]) else exact, batch


@torch.no_grad()
def _runs(low: nn.Module, images: Images) -> bool:
    """Whether no weight was left in another dtype than what it meets."""
    try:
        low(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError as error:
        if of_memory(error):
            raise
        return False
    return True


def convolves(module: nn.Module) -> bool:
    """Whether it has convolutions."""
    return any(isinstance(layer, nn.Conv2d) for layer in module.modules())


def is_plain(model: object) -> TypeGuard[nn.Module]:
    """Whether this is a module of which a copy computes what it does: eval mode, float32, convolutions, no hooks."""
    if not isinstance(model, nn.Module):
        return False
    modules = list(model.modules())
    altered = any("forward" in vars(m) for m in modules)
    floating = all(p.dtype is torch.float32 for p in model.parameters())
    return convolves(model) and floating and not (hooked_among(modules) or altered or any(m.training for m in modules))


class Scaled(nn.Module):
    """A batch norm in eval mode that has no convolution to vanish into: s a + t per channel."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        deviation = (norm.get_buffer("running_var") + norm.eps).sqrt()
        scale = (torch.ones_like(deviation) if norm.weight is None else norm.weight.detach()) / deviation
        shift = -scale * norm.get_buffer("running_mean") + (0 if norm.bias is None else norm.bias.detach())
        self.register_buffer("scale", scale.view(1, -1, 1, 1))
        self.register_buffer("shift", shift.view(1, -1, 1, 1))

    def forward(self, a: Tensor) -> Tensor:
        """Of maps (B, C, H, W)."""
        return torch.addcmul(self.shift, a, self.scale)


class Reading(Frozen):
    """A frozen copy that returns what layers of the network make of images."""

    def forward(self, images: Images) -> tuple[Tensor, ...]:
        """The outputs of the layers, in their order, those behind the first convolution in the dtype of products."""
        read: tuple[Tensor, ...] = self.low(images.contiguous(memory_format=torch.channels_last))
        return read


def _without_norms(graph: fx.GraphModule) -> fx.GraphModule:
    modules: dict[str, nn.Module] = dict(graph.named_modules())
    calls = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and _foldable(modules[str(node.target)]) and calls.count(str(node.target)) == 1:
            _fold_norm(graph, node, modules, calls)
    graph.recompile()
    graph.delete_all_unused_submodules()
    return graph


def _foldable(module: nn.Module) -> bool:
    return type(module) is nn.BatchNorm2d and module.running_mean is not None


def _fold_norm(graph: fx.GraphModule, node: fx.Node, modules: dict[str, nn.Module], calls: list[str]) -> None:
    """Merge one batch norm into the convolution before it, or make it a scaling."""
    before, norm = node.args[0], modules[str(node.target)]
    assert isinstance(norm, nn.BatchNorm2d)
    if isinstance(before, fx.Node) and _only_reader(before, modules, calls):
        convolution = modules[str(before.target)]
        assert isinstance(convolution, CONVOLUTIONS)
        fused: Any = fuse_conv_bn_eval(convolution, norm, transpose=isinstance(convolution, nn.ConvTranspose2d))
        _replace(graph, str(before.target), fused.requires_grad_(False))
        modules[str(before.target)] = fused
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    else:
        _replace(graph, str(node.target), Scaled(norm))


def _only_reader(before: fx.Node, modules: dict[str, nn.Module], calls: list[str]) -> bool:
    name = str(before.target)
    is_convolution = before.op == "call_module" and type(modules[name]) in CONVOLUTIONS
    return is_convolution and len(before.users) == 1 and calls.count(name) == 1


def _replace(whole: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(whole.get_submodule(parent), last, module)


@torch.no_grad()
def _run(model: nn.Module, images: Images) -> tuple[list[nn.Module], int]:
    """The layers without layers of their own in the order in which they run, and the size of the largest activation."""
    first = images[:1].contiguous(memory_format=torch.channels_last)
    order: list[nn.Module] = []
    sizes = [first.numel()]

    def note(layer: nn.Module, _: object, output: object) -> None:
        order.append(layer)
        sizes.append(output[0].numel() if isinstance(output, Tensor) and len(output) else 1)

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        model(first)
    finally:
        for handle in handles:
            handle.remove()
    return order, max(sizes)


def _cast_behind(exact: nn.Module, run: list[nn.Module], first: int, dtype: torch.dtype) -> nn.Module:
    """A copy whose layers behind the first convolution compute in `dtype`."""
    twins: dict[int, Any] = {}
    low = copy.deepcopy(exact, twins)
    early = {id(layer) for layer in run[: first + 1]}
    if first < len(run) and not _opened(low, twins[id(run[first])], dtype):
        twins[id(run[first])].register_forward_hook(lambda _, given, output: _cast(output, dtype))
    for layer in {id(layer): layer for layer in run[first + 1 :] if id(layer) not in early}.values():
        twin: nn.Module = twins[id(layer)].to(dtype)
        twin.register_forward_pre_hook(lambda _, given: tuple(_cast(value, dtype) for value in given))
    return low


def _opened(whole: nn.Module, convolution: nn.Module, dtype: torch.dtype) -> bool:
    """Whether the network's first convolution became an `Opening`, which hands on maps in `dtype`."""
    names = [name for name, layer in whole.named_modules(remove_duplicate=False) if layer is convolution and name]
    if not (names and opens(convolution)):
        return False
    for name in names:
        _replace(whole, name, Opening(convolution, dtype))
    return True


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
