"""Pickles of images, read by a machine that runs nothing.

A pickle is a program for a stack machine, and Python's own machine calls whatever the program names. This one takes the
instructions from `pickletools` and knows those that build dictionaries, lists, tuples, whole numbers, text and bytes.
For the few names that numpy writes into an array of bytes it has reconstructors of its own, which take bytes and a
shape; every other name is refused. Only text is ever hashed, as a key, nothing is compared or walked, and what is made
is bounded by the length of the program.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from carso.errors import VALUE, DataError, shown

STEPS = 2_000_000
"""The most instructions that are followed; those of the longest published set are about 200,000."""


def unpickle(data: bytes) -> Any:
    """The object that a pickle describes; keys are text, whether they were text or bytes, and arrays hold bytes.

    Raises:
        DataError: if the pickle asks for anything else; the message begins with a verb.
        Exception: of any kind, if it is damaged.
    """
    machine = _Machine(len(data))
    for step, (instruction, argument, _) in enumerate(pickletools.genops(data)):
        if step == STEPS:
            raise DataError(f"goes on for more than {STEPS:,} instructions, which no set of images needs")
        machine.follow(instruction.name, argument)
    found = machine.stack.pop()
    return {key: _settled(value) for key, value in found.items()} if isinstance(found, dict) else found


class _Array:
    """An array of bytes, empty until its values are known; None where it holds anything else."""

    def __init__(self, values: NDArray[np.uint8] | None = None) -> None:
        self.values = values


class _Element:
    """The type of an array's values."""

    def __init__(self, code: Any) -> None:
        self.is_byte = code in ("u1", b"u1")


class _Mark:
    """Where the items of a list, tuple or dictionary begin on the stack."""


class _Machine:
    """The stack of a pickle, its memory, and how many bytes its calls may still make."""

    def __init__(self, room: int) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}
        self.room = room

    def follow(self, instruction: str, argument: Any) -> None:
        """Carry out one instruction."""
        if instruction in _STEPS:
            _STEPS[instruction](self, argument)
        elif instruction not in _NOTHING:
            raise DataError(f"has the instruction {instruction}, which no set of images needs; do not trust this file")

    def above_mark(self) -> list[Any]:
        """Take what lies above the last mark, and the mark."""
        at = next(at for at in reversed(range(len(self.stack))) if isinstance(self.stack[at], _Mark))
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def take(self, count: int) -> tuple[Any, ...]:
        """Take so many items."""
        return tuple(reversed([self.stack.pop() for _ in range(count)]))


def _put(machine: _Machine, argument: int) -> None:
    machine.memory[argument] = machine.stack[-1]


def _memoize(machine: _Machine, _: None) -> None:
    machine.memory[len(machine.memory)] = machine.stack[-1]


def _get(machine: _Machine, argument: int) -> None:
    machine.stack.append(machine.memory[argument])


def _tuple_of(count: int) -> _Step:
    return lambda machine, _: machine.stack.append(machine.take(count))


def _extend(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, list):
        raise TypeError("items are added to what is no list")
    target += items


def _update(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, dict):
        raise TypeError("keys are added to what is no dictionary")
    target.update((_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True))


def _key(key: Any) -> str:
    if not isinstance(key, str | bytes):
        raise DataError(f"has a {type(key).__name__} for a key, which no set of images needs; do not trust this file")
    if len(key) > VALUE:
        raise DataError(f"has a key of {len(key):,} letters, which no set of images needs; do not trust this file")
    return key if isinstance(key, str) else key.decode("latin1")


def _dictionary(machine: _Machine, _: None) -> None:
    items = machine.above_mark()
    machine.stack.append({})
    _update(machine, items)


def _find(machine: _Machine, name: str) -> None:
    module, _, function = name.rpartition(" ")
    known = module.replace("_core", "core"), function
    if known not in _CALLS:
        raise DataError(f"asks to run {shown(f'{module}.{function}')}, which no set of images needs; do not trust it")
    machine.stack.append(_CALLS[known])


def _reduce(machine: _Machine, _: None) -> None:
    function, arguments = machine.take(2)
    if function not in _CALLS.values() or not isinstance(arguments, tuple):
        raise TypeError("what is called is no function")
    machine.stack.append(function(machine, *arguments))


def _build(machine: _Machine, _: None) -> None:
    (state,), target = machine.take(1), machine.stack[-1]
    if isinstance(target, _Array):
        _, shape, element, fortran, values = state
        target.values = _array(machine, values, element, shape, "F" if fortran else "C").values
    elif not isinstance(target, _Element):
        raise TypeError("a state is given to what is no array")


def _encode(machine: _Machine, text: str, encoding: str) -> bytes:
    """How bytes are written by protocols that know only text."""
    if encoding != "latin1":
        raise DataError(f"asks for the encoding {shown(encoding)}, which no set of images needs")
    machine.room -= len(text)
    if machine.room < 0:
        raise DataError("makes more bytes than it holds; do not trust this file")
    return text.encode("latin1")


def _hollow(machine: _Machine, kind: Any, shape: Any, element: Any) -> _Array:
    return _Array()


def _element(machine: _Machine, code: Any, *_: Any) -> _Element:
    return _Element(code)


def _array(machine: _Machine, values: Any, element: Any, shape: Any, order: str) -> _Array:
    """Bytes as an array, without a copy."""
    if not (isinstance(element, _Element) and element.is_byte and isinstance(values, bytes)):
        return _Array()
    if not (isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)):
        raise TypeError("the shape of an array is no tuple of whole numbers")
    return _Array(np.frombuffer(values, np.uint8).reshape(shape, order="F" if order == "F" else "C"))


def _settled(value: Any) -> Any:
    return value.values if isinstance(value, _Array) else value


_Step: TypeAlias = Callable[[_Machine, Any], None]

_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _hollow,
    ("numpy", "dtype"): _element,
    ("numpy.core.multiarray", "_reconstruct"): _hollow,
    ("numpy.core.numeric", "_frombuffer"): _array,
}

_NOTHING = {"PROTO", "FRAME", "STOP"}

_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
_TEXTS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_STRINGS = ("STRING", "BINSTRING", "SHORT_BINSTRING")  # Python 2's, which are bytes

_STEPS: dict[str, _Step] = {
    **dict.fromkeys(_NUMBERS + _TEXTS, lambda machine, argument: machine.stack.append(argument)),
    **dict.fromkeys(_BYTES, lambda machine, argument: machine.stack.append(bytes(argument))),
    **dict.fromkeys(_STRINGS, lambda machine, argument: machine.stack.append(argument.encode("latin1"))),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "MEMOIZE": _memoize,
    "MARK": lambda machine, _: machine.stack.append(_Mark()),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_TUPLE": _tuple_of(0),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.above_mark())),
    "LIST": lambda machine, _: machine.stack.append(machine.above_mark()),
    "DICT": _dictionary,
    "APPEND": lambda machine, _: _extend(machine, list(machine.take(1))),
    "APPENDS": lambda machine, _: _extend(machine, machine.above_mark()),
    "SETITEM": lambda machine, _: _update(machine, list(machine.take(2))),
    "SETITEMS": lambda machine, _: _update(machine, machine.above_mark()),
    "GLOBAL": _find,
    "STACK_GLOBAL": lambda machine, _: _find(machine, " ".join(machine.take(2))),
    "REDUCE": _reduce,
    "BUILD": _build,
}
