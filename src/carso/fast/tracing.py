"""A network as a graph, by torch.fx: traced alone, without chance, and only if what it writes in place stays written.

A trace puts methods of its own on nn.Module for the whole process. One thread traces at a time, and what another thread
calls meanwhile is handed on. A trace freezes the chance that is drawn in it: a network that draws there is refused, of
torch's operations before they draw.

A statement like `h.clamp_(max=1)` writes into memory that other values share. A form casts values, lays them out anew
and leaves out what nobody reads, all of which parts what shared. It means the same if what was written is read
afterwards by way of the statement's own result alone; a network of which that is not certain is refused.
"""

from __future__ import annotations

import linecache
import operator
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import Attribute
from torch.utils._python_dispatch import TorchDispatchMode

from carso.types import INPUT, OUTPUT

ASSIGNED = "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"
"""Operators with a statement of their own, as `h += 1`."""

STATEMENTS: dict[Any, Any] = {getattr(operator, f"i{name}"): getattr(operator, f"__{name}__") for name in ASSIGNED}
"""Each such statement and the operator that makes a new value instead."""

NEW_VALUES = {
    *(getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "neg", "matmul")),
    *(torch.add, torch.sub, torch.mul, torch.div, torch.cat, torch.stack, torch.matmul, torch.conv2d),
    *(torch.addcmul, torch.batch_norm, nn.functional.batch_norm, nn.functional.linear),
}
"""Functions whose results share no memory with what they read; any other may."""

NEW_MAPS = nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.Linear, nn.LayerNorm, nn.GroupNorm
"""The same of torch's own modules."""

SIZES = "size", "dim", "numel", "shape", "ndim", "dtype", "device"
"""What is asked of a tensor that is no memory of it."""

KNOWN = "torch", "_operator", "builtins", "math"
"""Where functions are from that write by their names or on demand alone."""

LAYING_OUT = torch.ops.aten.as_strided_.default
"""What torch's own pooling does to what it has just made."""

_one_at_a_time = threading.RLock()


class Graph(fx.GraphModule):
    """A graph that runs, called as any module is: what fails has no form, and is no news.

    Torch would print errors that are raised in it, and keep its source for good to do so.
    """

    def recompile(self) -> Any:
        """Make its `forward` of the graph."""
        made = super().recompile()
        del type(self).__call__
        name = type(self).forward.__code__.co_filename
        linecache.cache.pop(name, None)
        fx.graph_module._loader.eval_cache.pop(name, None)
        return made


class Writing(TorchDispatchMode):
    """Whether an operation of this thread has written in place since.

    Attributes:
        seen: whether one has.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen |= func._schema.is_mutable and func is not LAYING_OUT
        return func(*args, **(kwargs or {}))


def traced(model: nn.Module, layers: Sequence[str] = ()) -> Graph | None:
    """The module as a graph, of which these layers are the output if any are given; None where that cannot be had.

    A graph that returns layers leaves what it reads as it is, so that it can still be read.

    Args:
        model: any module; it becomes the graph's.
        layers: names of modules that run once, "input" or "output".
    """
    tracer = _Tracer(layers)
    with torch.enable_grad():
        graph = _without_chance(tracer, model)
    if graph is None or tracer.hid or not _safe(graph, model):
        return None
    _parted(graph, model if layers else None)
    if layers and not (_returns(graph, layers, tracer.heard) and _safe(graph, model)):
        return None
    made = Graph(model, graph)
    made.graph.eliminate_dead_code()
    return made


def _without_chance(tracer: _Tracer, model: nn.Module) -> fx.Graph | None:
    """The graph of what draws no chance.

    Numpy's and Python's generators belong to all threads: they get their states back where there is but one thread.
    """
    graph: fx.Graph | None = None
    with _one_at_a_time:
        array, own, alone = np.random.get_state(), random.getstate(), threading.active_count() == 1
        with suppress(Exception), (undrawn := _Undrawn()):  # a user's module may refuse tracing in any way
            graph = tracer.trace(model)
        if _comparable(array, own) == _comparable(np.random.get_state(), random.getstate()):
            return None if undrawn.drew else graph
        if alone:
            np.random.set_state(array)
            random.setstate(own)
    return None


def _comparable(array: Any, own: Any) -> tuple[Any, ...]:
    return array[1].tobytes(), array[2:], own


class _Undrawn(TorchDispatchMode):
    """Stops every operation of torch that would draw on this thread."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drew = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.drew = True
            raise RuntimeError(f"{func} draws")
        return func(*args, **(kwargs or {}))


class _Tracer(fx.Tracer):
    """Traces, on the thread that made it, down to modules without modules of their own, and into none of those.

    Args:
        layers: modules whose outputs are to be found in the graph.

    Attributes:
        heard: the node of every call of such a layer.
        hid: whether a value was made without a gradient, as under `torch.no_grad()`, of which a graph knows nothing.
    """

    def __init__(self, layers: Sequence[str] = ()) -> None:
        super().__init__()
        self.heard: dict[str, list[fx.Node]] = {layer: [] for layer in layers}
        self.thread, self.hid = threading.get_ident(), False

    def create_node(self, *given: Any, **named: Any) -> fx.Node:
        """A node; take note if it is made without a gradient."""
        self.hid |= not torch.is_grad_enabled()
        return super().create_node(*given, **named)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Take note of the layers."""
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        made, name = super().call_module(m, forward, args, kwargs), self.path_of_module(m)
        if name in self.heard and isinstance(made, fx.Proxy):
            self.heard[name].append(made.node)
        return made

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """A module's attribute, as it is for any other thread."""
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_args_for_root(self, *given: Any, **named: Any) -> Any:
        """What the module is called with; torch by now says of every thread that it traces, which others do not."""
        fx._symbolic_trace._is_fx_tracing_flag = _Here(self.thread)  # type: ignore[assignment]
        return super().create_args_for_root(*given, **named)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return not any(True for _ in module.children()) or super().is_leaf_module(module, name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What stands for a value."""
        return _Value(node, self)


@dataclass(frozen=True)
class _Here:
    """True on one thread."""

    thread: int

    def __bool__(self) -> bool:
        return threading.get_ident() == self.thread


class _Noted:
    """What stands for a value, with the statements that torch.fx takes for others: `h += 1` for `h = h + 1`."""

    def __getattr__(self, name: str) -> Attribute:
        return _Attribute(self, name)  # type: ignore[arg-type]

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(Tensor, name):
            raise TypeError(f"{name} is set, which no graph can hold")
        super().__setattr__(name, value)


class _Value(_Noted, fx.Proxy):
    pass


class _Attribute(_Noted, Attribute):
    pass


def _statement(function: Any) -> Callable[[Any, Any], Any]:
    return lambda value, other: value.tracer.create_proxy("call_function", function, (value, other), {})


for _function in STATEMENTS:
    setattr(_Noted, f"__{_function.__name__}__", _statement(_function))


def _safe(graph: fx.Graph, model: nn.Module) -> bool:
    """Whether what is written in place is the graph's own and read afterwards by the writing node's result alone."""
    modules = dict(model.named_modules())
    place = {node: i for i, node in enumerate(graph.nodes)}
    shared = _shared(graph, modules)
    holders: dict[fx.Node, list[fx.Node]] = defaultdict(list)
    for node, sources in shared.items():
        for source in sources:
            holders[source].append(node)

    def unsafe(node: fx.Node) -> bool:
        sources = {source for target in _targets(node) for source in shared[target]}
        if any(source.op in ("placeholder", "get_attr") for source in sources):
            return True
        before = {held for source in sources for held in holders[source] if place[held] < place[node]}
        return any(place[reader] > place[node] for held in before for reader in held.users)

    return not any(unsafe(node) and _writes(node, modules) for node in graph.nodes if node.op.startswith("call"))


def _shared(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> dict[fx.Node, frozenset[fx.Node]]:
    """For each node the nodes whose memory its value may be."""
    shared: dict[fx.Node, frozenset[fx.Node]] = {}
    for node in graph.nodes:
        if (node.op == "call_method" and node.target in SIZES) or (node.target is getattr and node.args[1] in SIZES):
            shared[node] = frozenset()
        elif _new(node, modules):
            shared[node] = frozenset([node])
        else:
            shared[node] = frozenset([node]).union(*(shared[read] for read in node.all_input_nodes))
    return shared


def _new(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether its value shares no memory with what it reads."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return isinstance(module, NEW_MAPS) and _familiar(module)
    return node.op == "call_function" and node.target in NEW_VALUES and "out" not in node.kwargs


def _familiar(module: nn.Module) -> bool:
    """Whether it is of a kind of torch's or ours, which write into what they are given by a flag alone."""
    return type(module).__module__.startswith(("torch.nn.modules.", "carso.nn."))


def _targets(node: fx.Node) -> list[fx.Node]:
    """What it writes into, if it does."""
    first = node.args[0] if node.args and node.op != "call_module" and _known(node) else None
    out = node.kwargs.get("out")
    return [first] if isinstance(first, fx.Node) and out is None else node.all_input_nodes


def _known(node: fx.Node) -> bool:
    """Whether it is a function or method of torch's or Python's."""
    home = getattr(node.target, "__module__", None) or "torch"
    return node.op == "call_method" or home.partition(".")[0] in KNOWN


def _writes(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether it writes in place, or may."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return bool(getattr(module, "inplace", False)) or not (_familiar(module) or _only_reads(module))
    if not _known(node):
        return True
    name = node.target if isinstance(node.target, str) else node.target.__name__
    flagged = node.kwargs.get("inplace", False) is not False or node.kwargs.get("out") is not None
    return flagged or name.endswith("_") or name == "setitem" or node.target in STATEMENTS


def _only_reads(module: nn.Module) -> bool:
    """Whether a trace of a module without modules of its own shows that it writes nothing."""
    graph = _without_chance(_Tracer(), module)
    return graph is not None and not any(_writes(node, {}) for node in graph.nodes if node.op.startswith("call"))


def _parted(graph: fx.Graph, model: nn.Module | None) -> None:
    """Have statements make new values, and of this model, if any, whatever is written in place by a flag."""
    for node in graph.nodes:
        if node.op == "call_function":
            node.target = STATEMENTS.get(node.target, node.target)
            if model is not None and "inplace" in node.kwargs:
                node.kwargs = {**node.kwargs, "inplace": False}
    for layer in model.modules() if model is not None else ():
        if hasattr(layer, "inplace"):
            vars(layer)["inplace"] = False


def _returns(graph: fx.Graph, layers: Sequence[str], heard: Mapping[str, list[fx.Node]]) -> bool:
    """Have the graph return the outputs of layers in their order; False where one did not run once."""
    images, last = next(iter(graph.nodes)), next(reversed(graph.nodes))
    ends = {INPUT: [images], OUTPUT: [last.args[0]]}
    found = [heard[layer] or ends.get(layer, []) for layer in layers]
    if any(len(nodes) != 1 for nodes in found):
        return False
    last.args = (tuple(nodes[0] for nodes in found),)
    return True
