"""A network as a graph, by torch.fx, where the graph is sure to compute what the network does.

Tracing replaces methods of nn.Module for the whole process. So one thread traces at a time, and calls that other
threads make meanwhile go to the methods that were there before.

Tracing would record random numbers as constants, so a network that draws any is refused; torch's random operations are
stopped before they run. So are operations that write into buffers, which tracing would run once, and not in each call.

A statement like `h.clamp_(max=1)` writes into memory that other values may share. A cheaper form casts values, changes
their layout and drops unread results, and values that shared memory then do not. The graph still computes the same if
the written memory is read afterwards through the statement's own result only. A network is refused unless that is
certain.
"""

from __future__ import annotations

import linecache
import operator
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import Attribute
from torch.utils._python_dispatch import TorchDispatchMode

from carso.nn.chance import rewind, shared_states
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

KNOWN = "torch", "_operator", "builtins", "math"
"""Packages whose functions write in place only if their name or an argument says so."""

LAYING_OUT = torch.ops.aten.as_strided_.default
"""What torch's own pooling does to what it has just made."""

_one_at_a_time = threading.RLock()


class Graph(fx.GraphModule):
    """A graph that is called as any module is, and whose source goes with it.

    Torch would print the errors that are raised in it, and keep its source for the life of the process to do so.
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
    """The module as a graph, which returns the outputs of these layers if any are given; None if it is refused.

    A graph that returns layers makes a new value where the network writes by `+=` or a flag, so that their outputs stay
    as they were made.

    Args:
        model: any module; it becomes the graph's.
        layers: names of modules that run once, "input" or "output".
    """
    tracer = _Tracer(layers)
    with torch.enable_grad():
        graph = _traced(tracer, model)
    if graph is None or tracer.hid or not _safe(graph, model):
        return None
    _parted(graph, model if layers else None)
    if layers and not (_returns(graph, layers, tracer.heard) and _safe(graph, model)):
        return None
    made = Graph(model, graph)
    made.graph.eliminate_dead_code()
    return made


def _traced(tracer: _Tracer, model: nn.Module) -> fx.Graph | None:
    """The graph, or None if the trace fails, draws random numbers or writes into what is constant to it.

    Numpy's and Python's generators are rewound only if no other thread can have drawn from them.
    """
    graph: fx.Graph | None = None
    with _one_at_a_time:
        before, alone = shared_states(), threading.active_count() == 1
        with suppress(Exception), (constant := _Constant()):  # a user's module may refuse tracing in any way
            graph = tracer.trace(model)
        if shared_states() == before:
            return None if constant.stopped else graph
        if alone:
            rewind(before)
    return None


class _Constant(TorchDispatchMode):
    """Stops what would draw random numbers on this thread, or write into a buffer: both are constants to a trace."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stopped = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags or func._schema.is_mutable:
            self.stopped = True
            raise RuntimeError(f"{func} draws or writes")
        return func(*args, **(kwargs or {}))


class _Tracer(fx.Tracer):
    """Traces on the thread that made it. Modules without submodules are calls in the graph, and are not traced into.

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
        """The module's placeholders. Torch's flag says by now that every thread traces; this one alone does."""
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
    """A proxy that records `h += 1` as a write; torch.fx would record `h = h + 1`."""

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
    """Whether every write goes into the graph's own memory, which is read afterwards by the writer's result alone.

    Memory is the graph's own if it is new, or that of own values which end here: whatever else reads them comes before
    and makes a new value.
    """
    modules = dict(model.named_modules())
    new: set[fx.Node] = set()
    own: set[fx.Node] = set()
    for node in graph.nodes:
        if not node.op.startswith("call"):
            continue
        read = set(node.all_input_nodes)
        ended = {value for value in read & own if value.users.keys() - new <= {node}}
        if not ended.issuperset(_targets(node)) and _writes(node, modules):
            return False
        if _new(node, modules):
            new.add(node)
            own.add(node)
        elif read and ended == read and _made_of_inputs(node, modules):
            own.add(node)
    return True


def _made_of_inputs(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether its value can share memory with its inputs alone, and not with what somebody's code keeps."""
    return _familiar(modules[str(node.target)]) if node.op == "call_module" else _known(node)


def _new(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether its value shares no memory with what it reads."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return isinstance(module, NEW_MAPS) and _familiar(module)
    return node.op == "call_function" and node.target in NEW_VALUES and "out" not in node.kwargs


def _familiar(module: nn.Module) -> bool:
    """Whether it is a layer of torch's or ours, which writes into its input only if its attribute `inplace` is set."""
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
    name = (node.target if isinstance(node.target, str) else node.target.__name__).partition(".")[0]
    flagged = node.kwargs.get("inplace", False) is not False or node.kwargs.get("out") is not None
    return flagged or name.endswith("_") or name == "setitem" or node.target in STATEMENTS


def _only_reads(module: nn.Module) -> bool:
    """Whether a trace of a module without modules of its own shows that it writes nothing."""
    graph = _traced(_Tracer(), module)
    return graph is not None and not any(_writes(node, {}) for node in graph.nodes if node.op.startswith("call"))


def _parted(graph: fx.Graph, model: nn.Module | None) -> None:
    """Replace `h += 1` by `h = h + 1` and `view`, which not every layout allows, by `reshape`.

    If a model is given, also switch its `inplace` flags off.
    """
    for node in graph.nodes:
        if node.op == "call_method" and node.target == "view" and not _to_dtype(node):
            node.target = "reshape"
        if node.op == "call_function":
            node.target = STATEMENTS.get(node.target, node.target)
            if model is not None and "inplace" in node.kwargs:
                node.kwargs = {**node.kwargs, "inplace": False}
    for layer in model.modules() if model is not None else ():
        if hasattr(layer, "inplace"):
            vars(layer)["inplace"] = False


def _to_dtype(node: fx.Node) -> bool:
    """Whether a `view` reads its memory as another dtype, and keeps the shape."""
    return any(isinstance(given, torch.dtype) for given in (*node.args, *node.kwargs.values()))


def _returns(graph: fx.Graph, layers: Sequence[str], heard: Mapping[str, list[fx.Node]]) -> bool:
    """Have the graph return the outputs of layers in their order; False where one did not run once."""
    images, *_, last = graph.nodes
    ends = {INPUT: [images], OUTPUT: [last.args[0]]}
    found = [heard[layer] or ends.get(layer, []) for layer in layers]
    if any(len(nodes) != 1 for nodes in found):
        return False
    last.args = (tuple(nodes[0] for nodes in found),)
    return True
